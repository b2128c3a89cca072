"""Every example is valid, and is drawn by the tiny model."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from weft.cli.app import app
from weft.core.runfile.read import read_run_file

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
sys.path.append(str(EXAMPLES.parent / "docs"))
draw_examples = importlib.import_module("draw_examples")
FEW = ["--set", "sampler.steps=2", "--set", "seeds=[0]", "--set", "metrics=[]"]


def test_there_are_ten_from_one_subject_to_four() -> None:
    assert len(FILES) >= 10
    counts = {len(run.scene.subjects) for path in FILES for run in read_run_file(path)}
    assert {0, 2, 3, 4} <= counts
    assert sum(1 for path in FILES if "\nsweep:" in path.read_text()) >= 3
    assert any("\nedit_mask:" in path.read_text() for path in FILES)


def test_each_names_the_schema_and_says_what_it_shows() -> None:
    for path in FILES:
        first, second, *_ = path.read_text().splitlines()
        assert first == "# yaml-language-server: $schema=weft.schema.json", path.name
        assert second.startswith("# "), path.name


def test_the_page_is_made_of_them() -> None:
    text = draw_examples.PAGE.read_text()
    assert text == draw_examples.page(), "python docs/draw_examples.py --page"
    assert all(f"](../examples/{path.name})" in text for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_tiny_model_draws_it(path: Path, tmp_path: Path) -> None:
    if lacking := draw_examples.lacking(path):
        pytest.skip(f"the tiny model has no weights of {', '.join(lacking)}")
    done = CliRunner().invoke(app, ["generate", str(path), "-o", str(tmp_path), *FEW])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert len(lines) == sum(len({0}) for _ in read_run_file(path))
    for line in lines:
        assert Image.open(tmp_path / line["file"]).size == (64, 64)
    assert (tmp_path / "sheet.png").is_file() == (len(lines) > 1)


def test_a_pages_picture_is_the_sheet_or_the_only_picture(tmp_path: Path) -> None:
    few = [one for one in FEW if one != "--set"]
    (alone,) = (path for path in FILES if path.stem.startswith("01"))
    assert draw_examples.draw(alone, tmp_path / "one", few).size == (64, 64)
    both = draw_examples.draw(alone, tmp_path / "two", [*few, "seeds=[0, 1]"])
    assert both.size == Image.open(tmp_path / "two" / "sheet.png").size
