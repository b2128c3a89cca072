"""`weft preview` draws what a run file says, where it says it, and needs no torch for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageColor
from typer.testing import CliRunner

from weft import Scene, Subject, UserError
from weft.cli.app import app
from weft.core.report.palette import color_of
from weft.core.report.scene_drawing import MARGIN, SCALE, SIDE, draw_scene

RUN = """\
version: 1
model: tiny
prompt: a toy and a red star on grass under a moon
subjects:
  - {phrase: toy, images: [toy.png], box: [0, 0.5, 0.5, 1]}
  - {phrase: red star, box: [0.5, 0.5, 1, 1]}
  - {phrase: moon, mask: moon.png}
seeds: [0, 1]
sweep: {guidance.0.scale: [1, 5]}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    Image.new("RGB", (32, 32), (10, 200, 30)).save(tmp_path / "toy.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 32))
    mask.save(tmp_path / "moon.png")
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def on_canvas(picture: Image.Image, x: float, y: float) -> tuple[int, int, int]:
    """The colour at a point in fractions of a square canvas."""
    margin, side = MARGIN // SCALE, SIDE // SCALE
    color = picture.getpixel((margin + round(x * side), margin + round(y * side)))
    assert isinstance(color, tuple)
    red, green, blue = color
    return red, green, blue


def nearer(color: tuple[int, int, int], wanted: str, other: str) -> bool:
    far = [
        sum(abs(a - b) for a, b in zip(color, ImageColor.getrgb(one), strict=True)) for one in (wanted, other)
    ]
    return far[0] < far[1]


def test_boxes_and_masks_lie_where_the_run_file_says(folder) -> None:
    done = CliRunner().invoke(app, ["preview", str(folder / "run.yaml"), "-o", str(folder / "out")])
    assert done.exit_code == 0, done.output
    (path,) = (folder / "out").iterdir()  # one scene, whatever the sweep of a strategy
    picture = Image.open(path)
    assert nearer(on_canvas(picture, 0.27, 0.77), color_of(0), color_of(1))
    assert nearer(on_canvas(picture, 0.77, 0.77), color_of(1), color_of(0))
    assert nearer(on_canvas(picture, 0.77, 0.27), color_of(2), color_of(1))
    empty = on_canvas(picture, 0.27, 0.27)
    assert max(empty) - min(empty) < 12
    colors = {color for _, color in picture.getcolors(1 << 24)}
    assert (10, 200, 30) in colors  # the reference beside the canvas


def test_every_scene_that_a_sweep_makes_is_drawn(folder) -> None:
    (folder / "run.yaml").write_text(
        RUN.replace("guidance.0.scale: [1, 5]", "subjects.1.box: [[0, 0, 1, 1], [0, 0, 1, 0.5]]")
    )
    done = CliRunner().invoke(app, ["preview", str(folder / "run.yaml"), "-o", str(folder / "out")])
    assert done.exit_code == 0, done.output
    first, second = sorted((folder / "out").iterdir())
    assert first.read_bytes() != second.read_bytes()


def test_it_needs_no_torch(folder) -> None:
    code = "import sys\nfrom weft.cli import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "preview", "run.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("False\n")


def test_a_picture_that_cannot_be_opened_is_named(folder) -> None:
    (folder / "toy.png").write_bytes((folder / "toy.png").read_bytes()[:60])
    done = CliRunner().invoke(app, ["preview", str(folder / "run.yaml"), "-o", str(folder / "out")])
    assert done.exit_code == 2
    assert "subject 'toy', field 'images'" in done.stderr


@pytest.mark.parametrize("size", [(64, 64), (512, 768), (4096, 8), (8, 4096)])
def test_any_scene_fits(size) -> None:
    words = " ".join(f"thing{i}" for i in range(60))
    reference = Image.new("RGB", (300, 2))
    subjects = [Subject(f"thing{i}", images=[reference] * 7, box=(0.99, 0.99, 1, 1)) for i in range(30)]
    picture = draw_scene(Scene(words, subjects, maps={"edges": reference}, source=reference), size)
    assert picture.width < 2000
    assert picture.height > 640 * min(1, size[0] / max(size))
    draw_scene(Scene("", []), size)


def test_a_source_is_shown_below_the_layout() -> None:
    source = Image.new("RGB", (64, 64), "black")
    plain, edited = draw_scene(Scene("x"), (64, 64)), draw_scene(Scene("x", source=source), (64, 64))
    assert sum(on_canvas(edited, 0.27, 0.27)) < sum(on_canvas(plain, 0.27, 0.27)) - 200
    with pytest.raises(UserError, match="'source'"):
        draw_scene(Scene("x", source=Path("nowhere.png")), (64, 64))


def test_keypoints_lie_where_they_should_be_with_their_names() -> None:
    plain = draw_scene(Scene("a toy", [Subject("toy")]), (64, 64))
    named = draw_scene(
        Scene("a toy", [Subject("toy", keypoints={"nose": (0.5, 0.25), "left_knee": (0.99, 0.75)})]), (64, 64)
    )
    for x, y in ((0.5, 0.25), (0.99, 0.75)):
        assert nearer(on_canvas(named, x, y), color_of(0), "#f4f3ef")
        assert not nearer(on_canvas(plain, x, y), color_of(0), "#f4f3ef")
    beside = (0.8, 0.72, 0.96, 0.78)  # the name that has no room on the right stands on the left
    area = [MARGIN // SCALE + round(side * SIDE / SCALE) for side in beside]
    darkest = [picture.crop(area).convert("L").getextrema()[0] for picture in (named, plain)]
    assert darkest[0] < 100 < darkest[1]
