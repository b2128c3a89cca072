"""`weft show`: a page that parses, escapes, needs nothing from outside, and shows every image."""

from __future__ import annotations

import json
import os
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

import weft
from weft.cli.app import app
from weft.core.api.generation_settings import GenerationSettings
from weft.core.api.sampler_settings import SamplerSettings
from weft.core.jobs.gallery import PAGE, POLICY
from weft.core.jobs.manifest import Manifest
from weft.core.provenance.write import OVERLAY, PROVENANCE, RUN_FILE, write_item

VOID = ("img", "meta", "input", "br")
EVIL = "<script>alert(1)</script>\" onload='x' \x00&amp; javascript:"


class Page(HTMLParser):
    """Elements in order; every end tag must close the last open one."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attributes}) == len(attributes)
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.said.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def settings(model: Path) -> GenerationSettings:
    parts = (
        SamplerSettings("ddim", 5, width=24, height=16, batch_size=8),
        "normal",
        "cpu",
        "AVX2",
        "float32",
        1,
    )
    return GenerationSettings(str(model), None, (), (weft.ClassifierFree(7.5),), *parts)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    return tmp_path


def keep(folder: Path, count: int, prompt: str = "a toy", **item: object) -> None:
    scene = weft.Scene(prompt, [weft.Subject(prompt.split()[-1], box=(0.1, 0.2, 0.6, 0.8))])
    for seed in range(count):
        image = Image.new("RGB", (24, 16), (seed % 256, 0, 0))
        write_item(
            folder, f"{seed:04d}-seed{seed}", image, scene, seed, settings(folder / "model.safetensors"), item
        )


def shown(folder: Path, code: int = 0) -> Page:
    done = CliRunner().invoke(app, ["show", str(folder)])
    assert done.exit_code == code, done.output
    return Page((folder / PAGE).read_text(encoding="utf-8"))


def test_every_picture_is_there_with_boxes_settings_and_metrics(folder) -> None:
    keep(folder, 3, sweep={"guidance.0.scale": 5}, metrics={"box_iou": 0.25})
    Image.new("RGB", (24, 16)).save(folder / f"0001-seed1{OVERLAY}red-star.png")
    page = shown(folder)
    pictures = [image["src"] for image in page.all("img")]
    assert [src for src in pictures if OVERLAY not in src] == [f"./{i:04d}-seed{i}.png" for i in range(3)]
    assert [src for src in pictures if OVERLAY in src] == [f"./0001-seed1{OVERLAY}red-star.png"]
    assert all((folder / src).is_file() for src in pictures)
    styles = [one["style"] for one in page.all("span") if one.get("class") == "box"]
    assert len(styles) == 3
    assert "left:10%;top:20%;width:50%;height:60%" in styles[0]
    text = "".join(page.said)
    for words in (
        "seed",
        "guidance.0.scale",
        "0.25",
        "mean 0.250",
        "attention",
        "classifier_free",
        "float32",
    ):
        assert words in text
    assert page.all("img")[0]["width"] == "24"


def test_nothing_runs_and_nothing_is_fetched(folder) -> None:
    keep(folder, 1)
    page = shown(folder)
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in page.all("meta")
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.found}
    for tag, attributes in page.found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "./").startswith("./")
    assert "url(" not in (folder / PAGE).read_text()


def test_what_a_stranger_wrote_stays_text(folder) -> None:
    keep(folder, 1, f"{EVIL} toy", sweep={EVIL: EVIL}, metrics={EVIL: 1.0})
    stem = '0000-seed0"><script>x'
    for suffix in (".png", ".json"):
        (folder / f"0000-seed0{suffix}").rename(folder / f"{stem}{suffix}")
    page = shown(folder)
    assert not page.all("script")
    assert "<script>alert(1)</script>" in "".join(page.said)
    assert "\x00" not in (folder / PAGE).read_text()
    (image,) = page.all("img")
    assert set(image) <= {"src", "alt", "loading", "decoding", "width", "height", "class"}


@pytest.mark.parametrize(
    "changes",
    [
        {"subjects": "x", "sampler": [1], "prompt": 3},
        {"subjects": [1, {"box": "x"}, {"box": [1, 2]}, {"box": [True, "a", 0, 9]}]},
        {"sampler": {"width": -5, "height": "tall"}},
    ],
)
def test_settings_that_make_no_sense_break_nothing(folder, changes) -> None:
    keep(folder, 1)
    from weft.core.provenance.run_file_writer import run_file_text

    Image.open(folder / "0000-seed0.png").save(folder / "0000-seed0.png")  # without texts
    sidecar = json.loads((folder / "0000-seed0.json").read_text())
    sidecar["run_file"] = run_file_text({"version": 1, **changes})
    sidecar["item"] = {"metrics": [1], "sweep": "x"}
    (folder / "0000-seed0.json").write_text(json.dumps(sidecar))
    assert len(shown(folder).all("figure")) == 1


def test_a_picture_that_cannot_be_read_is_left_out_and_told(folder) -> None:
    keep(folder, 2)
    (folder / "0000-seed0.json").write_text("{")
    Image.open(folder / "0000-seed0.png").save(folder / "0000-seed0.png")
    Image.new("RGB", (4, 4)).save(folder / "holiday.png")
    page = shown(folder, code=3)
    assert len(page.all("figure")) == 1


@pytest.mark.parametrize(
    ("metric", "text"),
    [(10**400, "1000000"), (float("inf"), "inf"), (-float("inf"), "-inf"), (float("nan"), "nan")],
)
def test_a_metric_that_no_float_holds_is_a_row_that_says_so(folder, metric, text) -> None:
    keep(folder, 3, metrics={"iou": 0.5})
    manifest = Manifest(folder)
    for seed, value in enumerate((0.25, metric, 0.75)):
        line = {"id": str(seed), "file": f"{seed:04d}-seed{seed}.png", "sha256": "0" * 64}
        manifest.add({**line, "metrics": {"iou": value}})
    page = shown(folder, code=3)
    assert len(page.all("figure")) == 3
    (row,) = [words for words in page.said if "metric 'iou': expected a finite number" in words]
    assert "0001-seed1.png" in row
    assert text in row
    assert "mean 0.500" in page.said


def test_odd_names_and_markup_break_nothing(folder) -> None:
    """A name that is not UTF-8, markup and a terminal's commands in texts, an endless run file."""
    keep(folder, 4)
    name = os.fsdecode(b"0000-\xff[b].png")
    (folder / "0000-seed0.png").rename(folder / name)
    for seed, change in enumerate(
        [
            {"references": {"/[/b]\x1b[31m": "0" * 64}},
            {"format": "[/b]"},
        ],
        start=1,
    ):
        path = folder / f"{seed:04d}-seed{seed}.json"
        sidecar = json.loads(path.read_text())
        sidecar["provenance"].update(change)
        path.write_text(json.dumps(sidecar))
        Image.new("RGB", (24, 16)).save(path.with_suffix(".png"))
    texts = PngInfo()
    texts.add_itxt(PROVENANCE, json.dumps(json.loads((folder / "0003-seed3.json").read_text())["provenance"]))
    texts.add_itxt(RUN_FILE, "a: [" + "1, " * 400_000 + "1]")
    Image.new("RGB", (24, 16)).save(folder / "0003-seed3.png", pnginfo=texts)
    before = time.process_time()
    done = CliRunner().invoke(app, ["show", str(folder)])
    assert time.process_time() - before < 5
    assert done.exit_code == 3
    assert "\x1b" not in done.stdout
    assert "left out: file" in done.stdout
    assert "/[/b]\\x1b[31m" in done.stdout
    assert "at most 1,000,000 characters" in done.stdout
    page = Page((folder / PAGE).read_text(encoding="utf-8"))
    assert [image["src"] for image in page.all("img")] == ["./0000-%FF%5Bb%5D.png"]
    assert len(page.all("li")) == 3


def test_a_reader_writes_nothing_but_its_page(folder) -> None:
    keep(folder, 1)
    (folder / "manifest.jsonl").write_bytes(
        b'{"id": "1", "file": "0000-seed0.png", "sha256": "0"}\n{"id": "2", "f'
    )
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shown(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != PAGE} == before


def test_a_folder_without_pictures_is_a_mistake(tmp_path) -> None:
    for wrong in (tmp_path, tmp_path / "nowhere"):
        done = CliRunner().invoke(app, ["show", str(wrong)])
        assert done.exit_code == 2


def test_500_pictures_make_a_small_page_soon(folder) -> None:
    keep(folder, 500, metrics={"box_iou": 0.5})
    before = time.process_time()
    page = shown(folder)
    assert time.process_time() - before < 5
    assert len(page.all("figure")) == 500
    assert all(image["loading"] == "lazy" for image in page.all("img"))
    assert (folder / PAGE).stat().st_size < 1_500_000
