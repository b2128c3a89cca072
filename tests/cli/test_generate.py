"""`weft generate` over many images: what is skipped, measured, laid out and told."""

import csv
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from weft.cli.app import app
from weft.core.api.metric import Metric
from weft.core.api.registry import registry
from weft.core.pipeline import Pipeline
from weft.core.report.entries import Entry, interval_text
from weft.core.report.plot import plot
from weft.core.scene import Scene
from weft.core.storage.lock import only_writer

RUN = """\
version: 1
model: model
scenes:
  - a toy and a star
  - a red moon
sampler: {steps: 1}
seeds: [3, 4]
sweep: {guidance.0.scale: [1, 5]}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from weft.testing import random_model

    return random_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "run.yaml").write_text(RUN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[int]]]:
    """Prompts and seeds of every batch that is drawn."""
    batches: list[tuple[list[str], list[int]]] = []
    generate = Pipeline.generate

    def noted(
        self: Pipeline, scenes: Sequence[Scene], *args: Any, seeds: Sequence[int], **options: Any
    ) -> Any:
        batches.append(([scene.prompt for scene in scenes], list(seeds)))
        return generate(self, scenes, *args, seeds=seeds, **options)

    monkeypatch.setattr(Pipeline, "generate", noted)
    return batches


def weft(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["generate", "run.yaml", "-o", "out", *arguments])


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "manifest.jsonl").read_text().splitlines()]


def test_a_run_into_a_folder_that_another_draws_into_ends_at_once(
    folder: Path, drawn: list[tuple[list[str], list[int]]]
) -> None:
    pytest.importorskip("fcntl")
    (folder / "out").mkdir()
    with only_writer(folder / "out", "--output"):
        done = weft()
    assert done.exit_code == 2
    assert "--output: expected a folder of its own, found 'out', which another run of weft" in done.stderr
    assert drawn == []
    assert list((folder / "out").iterdir()) == []


def test_a_folder_of_any_name_and_prompts_of_any_text_are_drawn_and_resumed(
    folder: Path, drawn: list[tuple[list[str], list[int]]]
) -> None:
    """Markup in the folder's name, and what ends lines elsewhere in a prompt."""
    (folder / "run.yaml").write_text(
        '{version: 1, model: model, prompt: "a\\u2028toy\\x85 [/b]", sampler: {steps: 1}}'
    )
    for _ in range(2):
        done = CliRunner().invoke(app, ["generate", "run.yaml", "-o", "out[-b]x[/b]"])
        assert done.exit_code == 0, done.output
        assert "out[-b]x[/b]" in done.stdout
    assert len(drawn) == 1


def test_a_second_run_draws_what_is_missing(folder: Path, drawn: list[tuple[list[str], list[int]]]) -> None:
    assert weft().exit_code == 0
    both = ["a toy and a star", "a red moon"]
    assert drawn == [(both, [3, 4]), (both, [3, 4])], "scenes share a batch, points of the sweep do not"
    before = {path.name: path.read_bytes() for path in (folder / "out").glob("*.png")}
    drawn.clear()
    assert weft().exit_code == 0
    assert drawn == []
    lines = manifest(folder)
    (folder / "out" / lines[0]["file"]).unlink()
    (folder / "out" / lines[5]["file"]).write_bytes(b"no image")
    done = weft()
    assert done.exit_code == 0
    assert "6 of 8 images are in out already" in done.stdout
    assert sorted(drawn) == sorted([([lines[0]["prompt"]], [3]), ([lines[5]["prompt"]], [lines[5]["seed"]])])
    pictures = {path.name for path in (folder / "out").glob("*.png")}
    assert pictures == set(before)


def test_a_changed_setting_draws_anew_beside_the_old(
    folder: Path, drawn: list[tuple[list[str], list[int]]]
) -> None:
    assert weft().exit_code == 0
    drawn.clear()
    assert weft("--set", "guidance.0.scale=5").exit_code == 0
    assert drawn == [], "these are a point of the sweep before"
    assert weft("--set", "sweep.guidance.0.scale=[5, 6]").exit_code == 0
    assert len(drawn) == 1
    assert len(manifest(folder)) == 12


def test_an_interrupted_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = Pipeline.generate
    count = 0

    def interrupted(self: Pipeline, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return generate(self, *args, **options)

    monkeypatch.setattr(Pipeline, "generate", interrupted)
    done = weft()
    assert done.exit_code == 130
    assert "interrupted: 4 of 8 images are in out" in done.stderr
    assert len(manifest(folder)) == 4
    done = weft()
    assert done.exit_code == 0
    assert count == 3
    assert "8 of 8 images are in out" in done.stdout


def test_metrics_are_tabled_and_plotted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bright(image: Image.Image, scene: Scene) -> float | None:
        gray = image.convert("L").tobytes()
        return sum(gray) / len(gray) if "moon" in scene.prompt else None

    def broken(image: Image.Image, scene: Scene) -> float | None:
        raise RuntimeError("no luck")

    found = {"bright": Metric("how bright", bright), "broken": Metric("raises", broken)}
    monkeypatch.setattr(type(registry()), "metric", lambda self, name: found.get(name))
    done = weft("--set", "metrics=[bright]")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((folder / "out" / "metrics.csv").read_text().splitlines()))
    assert [bool(row["bright"]) for row in rows] == [False] * 4 + [True] * 4
    assert {row["guidance.0.scale"] for row in rows} == {"1", "5"}
    with Image.open(folder / "out" / "metrics.png") as plot:
        assert plot.width > 300
    assert "guidance.0.scale: 5" in done.stdout
    assert re.search(r"\d+\.\d{3} \(-?\d+\.\d{3} to \d+\.\d{3}\)", done.stdout)

    done = weft("--set", "metrics=[bright, broken]")
    assert done.exit_code == 3
    assert done.stderr.count("plugin 'broken', measuring the image of seed 3: RuntimeError: no luck") == 1
    assert manifest(folder)[0]["metrics"] == {"bright": None}


def test_means_have_intervals() -> None:
    assert interval_text([]) == "-"
    assert interval_text([0.5]) == "0.500"
    assert interval_text([1.0, 3.0]) == "2.000 (-10.706 to 14.706)"
    assert interval_text([1.0, 0.0, 1.0, 0.0], (0.0, 1.0)) == "0.500 (0.150 to 0.850)"


def test_a_plot_of_words_and_of_two_settings() -> None:
    points = [
        Entry(
            0,
            "",
            0,
            {"sampler.scheduler": name, "sampler.steps": steps},
            Image.Image,
            {"a": float(steps), "b": None},
        )
        for name in ("ddim", "euler")
        for steps in (1, 2)
        for _ in range(3)
    ]
    made = plot(points, ["a", "b"], {"a": (0.0, math.inf)})
    assert made.width > 2 * made.height
    assert len(made.getcolors(1_000_000) or ()) > 20


def test_a_long_list_of_pictures_fills_several_sheets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.core.report import entries

    monkeypatch.setattr(entries, "IMAGES_A_SHEET", 3)
    assert weft("--set", "sweep={}").exit_code == 0
    assert sorted(path.name for path in (folder / "out").glob("sheet*.png")) == ["sheet-2.png", "sheet.png"]


def test_an_override_that_is_wrong_is_told(folder: Path) -> None:
    done = weft("--set", "sampler.stpes=3")
    assert done.exit_code == 2
    assert "--set sampler.stpes=3: expected one of scheduler, steps" in done.stderr
    assert not (folder / "out").exists()


def test_the_schema_is_written_where_it_is_asked_for(folder: Path) -> None:
    done = CliRunner().invoke(app, ["schema", "-o", "weft.schema.json"])
    assert done.exit_code == 0
    assert "# yaml-language-server: $schema=weft.schema.json" in done.stdout
    assert json.loads((folder / "weft.schema.json").read_text())["$schema"].endswith("draft-07/schema#")
