"""The table of image formats: what a new entry takes, from the first image to the page and the drawing again."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from weft.cli.app import app
from weft.core.scene import image_formats
from weft.core.scene.image_formats import ImageFormat, Png, encode_image, image_texts

RUN = """\
version: 1
model: model
prompt: a toy and a star
sampler: {steps: 1}
seeds: [0, 1]
reproducibility: exact
"""


class LosslessWebp(ImageFormat):
    """Texts as JSON in place of XMP."""

    name = "WEBP"
    suffix = ".webp"
    media_type = "image/webp"

    def encode(self, image, texts) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format="WEBP", lossless=True, exact=True, xmp=json.dumps(dict(texts)).encode())
        return buffer.getvalue()

    def texts(self, image) -> dict[str, str]:
        return json.loads(image.info.get("xmp", b"{}"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from weft.testing import random_model

    random_model(tmp_path / "model")
    (tmp_path / "run.yaml").write_text(RUN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weft(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_entry_is_all_that_a_format_takes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weft("generate", "run.yaml", "-o", "first")
    monkeypatch.setattr(image_formats, "WRITTEN", (LosslessWebp(), Png()))
    weft("generate", "run.yaml", "-o", "out")
    images = sorted((folder / "out").glob("*-seed*.webp"))
    assert len(images) == 2
    assert (folder / "out" / "sheet.webp").is_file()
    assert not list((folder / "out").glob("*.png"))
    for image in images:
        with Image.open(image) as new, Image.open(folder / "first" / f"{image.stem}.png") as old:
            assert new.format == "WEBP"
            assert new.convert("RGB").tobytes() == old.tobytes()
    assert "2 of 2 images are in out already" in weft("generate", "run.yaml", "-o", "out")
    weft("show", "out")
    page = (folder / "out" / "index.html").read_text()
    assert page.count(".webp") == 4  # a link and an image each
    assert "equal, every pixel as recorded" in weft("repro", str(images[0]))
    assert "equal, every pixel as recorded" in weft(
        "repro", str(next((folder / "first").glob("*-seed*.png")))
    )


def test_texts_outlive_the_file(tmp_path: Path) -> None:
    texts = {"weft.run": "prompt: größer\n", "parameters": "a\nb"}
    path = tmp_path / "image.png"
    path.write_bytes(encode_image(Image.new("RGB", (2, 2)), texts))
    assert image_texts(path) == texts
