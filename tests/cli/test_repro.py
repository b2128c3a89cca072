"""`weft repro` on what `weft generate` writes: equal, changed, and incomplete."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from weft.cli.app import app
from weft.testing import random_model

RUN = """\
version: 1
model: model
prompt: a toy and a star
subjects: [{phrase: toy, images: [toy.png], box: [0, 0, 0.5, 1]}]
sampler: {steps: 2, batch_size: 2}
reproducibility: exact
seeds: [3, 4, 5]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("repro")
    random_model(folder / "model")
    Image.new("RGB", (8, 8), "red").save(folder / "toy.png")
    (folder / "run.yaml").write_text(RUN)
    done = weft("generate", folder / "run.yaml", "-o", folder / "out")
    assert done.exit_code == 0, done.output
    return folder


def weft(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_picture_of_a_run_is_drawn_again_alone_and_equal(place) -> None:
    pictures = sorted((place / "out").glob("*-seed*.png"))
    assert len(pictures) == 3
    for picture in pictures[1:]:
        done = weft("repro", picture, "-o", place / "new.png")
        assert done.exit_code == 0, done.output
        assert "Drawn again: equal" in done.stdout
        assert Image.open(place / "new.png").tobytes() == Image.open(picture).tobytes()


def test_a_picture_that_was_saved_anew_is_drawn_from_the_file_beside_it(place) -> None:
    picture = sorted((place / "out").glob("*-seed3*.png"))[0]
    before = picture.read_bytes()
    try:
        image = Image.open(picture).convert("RGB")
        image.putpixel((0, 0), (0, 0, 0))
        image.save(picture)
        done = weft("repro", picture)
    finally:
        picture.write_bytes(before)
    assert done.exit_code == 0, done.output
    assert "has lost its texts" in done.stdout
    assert "was changed after it was drawn" in done.stdout


def test_what_is_missing_or_changed_is_a_users_mistake(place, tmp_path) -> None:
    picture = sorted((place / "out").glob("*-seed3*.png"))[0]
    assert weft("repro", tmp_path / "nowhere.png").exit_code == 2
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    done = weft("repro", tmp_path / "plain.png")
    assert done.exit_code == 2
    assert "an image with its run file in it" in done.stderr
    before = (place / "toy.png").read_bytes()
    try:
        Image.new("RGB", (8, 8), "blue").save(place / "toy.png")
        done = weft("repro", picture)
    finally:
        (place / "toy.png").write_bytes(before)
    assert done.exit_code == 2
    assert "reference '../toy.png': expected SHA-256" in done.stderr
