"""Scene data that nothing in a run file reads: a warning with its line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

import weft
from weft.core.api.guidance import Guidance
from weft.core.api.registry import Registry, registry
from weft.core.runfile.read import read_run_file

RUN = """\
version: 1
model: tiny
prompt: a toy and a red star on grass
subjects:
  - {phrase: toy, images: [toy.png], box: [0.05, 0.4, 0.45, 0.9]}
  - {phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}
maps: {edges: toy.png}
"""
BOXES = "5:38: expected a conditioner, strategy or metric that reads 'subjects.box', found none."
IMAGES = "5:19: expected a conditioner, strategy or metric that reads 'subjects.images', found none."
EDGES = "7:8: expected a conditioner, strategy or metric that reads 'maps.edges', found none."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "toy.png")
    return tmp_path


def warned(folder: Path, text: str, plugins: Registry | None = None) -> list[str]:
    (folder / "run.yaml").write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_run_file(folder / "run.yaml", plugins)
    assert all(isinstance(one.message, weft.SceneWarning) for one in caught)
    return [str(one.message).removeprefix(f"{folder / 'run.yaml'}:") for one in caught]


def test_every_kind_of_data_is_named_once_at_its_first_line(folder: Path) -> None:
    images, boxes, edges = warned(folder, RUN)
    assert images.startswith(IMAGES)
    assert "pseudo_word" in images
    assert "identity" in images
    assert boxes.startswith(BOXES)
    assert boxes.endswith("1 more like it.")
    assert "grounding" in boxes
    assert edges == f"{EDGES} No built-in does."


@pytest.mark.parametrize(
    ("added", "left"),
    [
        ("guidance: [layout]", [IMAGES, EDGES]),
        ("conditioners: [pseudo_word]", [BOXES, EDGES]),
        ("conditioners: [{type: pseudo_word, strength: 0}]", [BOXES, EDGES]),
        ("conditioners: [grounding]", [EDGES]),
        ("metrics: [placement]", [IMAGES, EDGES]),
        ("metrics: [identity, placement]", [EDGES]),
        ("sweep: {guidance: [[{type: classifier_free}], [{type: layout}]]}", [IMAGES, EDGES]),
    ],
)
def test_what_one_run_reads_is_not_warned_of(folder: Path, added: str, left: list[str]) -> None:
    assert [text.split(" found none.")[0] + " found none." for text in warned(folder, RUN + added)] == left


def test_a_bare_subject_and_an_empty_field_are_nothing_to_warn_of(folder: Path) -> None:
    text = "{version: 1, model: tiny, prompt: a toy, subjects: [{phrase: toy, images: [], keypoints: {}}], maps: {}}"
    assert warned(folder, text) == []


def test_scenes_of_a_list_are_named_by_their_own_lines(folder: Path) -> None:
    lines = ['{"prompt": "a toy"}', *['{"prompt": "a toy", "maps": {"depth": "toy.png"}}'] * 3]
    (folder / "scenes.jsonl").write_text("\n".join(lines))
    (text,) = warned(folder, "{version: 1, model: tiny, scenes: scenes.jsonl}")
    assert text.startswith(f"{folder / 'scenes.jsonl'}:2:30: ")
    assert text.endswith("2 more like it.")


def test_a_plugin_that_does_not_say_what_it_reads_silences_the_warnings(folder: Path) -> None:
    @weft.record
    class Silent(Guidance):
        """Says nothing of what it reads."""

        name: ClassVar[str] = "silent"
        neutral: ClassVar[Mapping[str, Any]] = {}

    plugins = Registry()
    plugins.add(Silent)
    assert warned(folder, RUN + "guidance: [silent]", plugins) == []
    assert len(warned(folder, RUN, plugins)) == 3


def test_every_built_in_says_what_it_reads() -> None:
    ours = [one.value for one in registry().plugins() if one.distribution == "weft"]
    assert len(ours) > 10
    assert [one.name for one in ours if one.scene_fields is None] == []
    assert [name for name, metric in registry().metrics().items() if metric.scene_fields is None] == []


def test_a_field_that_no_scene_has_cannot_be_declared() -> None:
    @weft.record
    class Misspelt(Guidance):
        """Reads what is not there."""

        name: ClassVar[str] = "misspelt"
        neutral: ClassVar[Mapping[str, Any]] = {}
        scene_fields: ClassVar[frozenset[str]] = frozenset({"maps.edges", "subjects", "subjects.boxes"})

    with pytest.raises(
        TypeError, match=r"Misspelt.*subjects\.images.*maps\.NAME.*'subjects\.boxes'.*subjects\.box'"
    ):
        Registry([]).add(Misspelt)
