"""A plugin's files, folders and images, alone, in lists and by name: found, digested, and drawn from again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from pydantic import Field

import weft
from weft.core.api.registry import registry
from weft.core.jobs.job import plan
from weft.core.jobs.reproduce import draw_again
from weft.core.provenance.write import read_provenance
from weft.core.runfile.read import read_run_file
from weft.core.runfile.strict_yaml import FileErrors
from weft.core.scene.scene import ImageSource
from weft.plugin import Fixed
from weft.testing import random_model

RUN = """\
version: 1
model: model
prompt: a toy
maps: {depth: depth.png, views: [depth.png, front.png]}
conditioners:
  - type: many_files
    folder: weights
    files: [weights/one.bin, weights/two.bin]
    named: {first: weights/one.bin}
    pictures: [front.png]
guidance: []
sampler: {steps: 1}
"""


@weft.record
class ManyFiles(weft.Conditioner):
    """Reads files of every kind.

    Args:
        folder: of weights.
        files: of weights.
        named: weights by name.
        pictures: images.
    """

    name: ClassVar[str] = "many_files"
    scene_fields: ClassVar[frozenset[str]] = frozenset({"maps"})

    folder: Path | None = None
    files: tuple[Path, ...] = ()
    named: Mapping[str, Path] = Field(default_factory=dict)
    pictures: tuple[ImageSource, ...] = ()

    def prepare(self, scene, model):
        return Fixed(())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("files") / "model")


@pytest.fixture
def place(model, tmp_path) -> Iterator[Path]:
    registry().add(ManyFiles)
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "weights" / "inner").mkdir(parents=True)
    for name in ("one.bin", "two.bin", "inner/three.bin"):
        (tmp_path / "weights" / name).write_bytes(name.encode())
    for name in ("depth", "front"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "run.yaml").write_text(RUN)
    yield tmp_path
    found = registry()._plugins  # what is added is for this test alone
    found[:] = [one for one in found if one.value is not ManyFiles]


def test_they_are_relative_to_the_run_file(place: Path) -> None:
    (run,) = read_run_file(place / "run.yaml")
    plugin: Any = run.conditioners[0]
    weights = (place / "weights").resolve()
    assert plugin.folder == weights
    assert plugin.files == (weights / "one.bin", weights / "two.bin")
    assert dict(plugin.named) == {"first": weights / "one.bin"}
    assert plugin.pictures == ((place / "front.png").resolve(),)
    assert run.scene.maps["views"] == ((place / "depth.png").resolve(), (place / "front.png").resolve())
    places = [one.place.removeprefix("scene, field ") for one in run.scene.images()]
    assert places == ["'maps.depth'", "'maps.views'", "'maps.views'"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("folder: weights", "folder: wieghts", 7),
        ("weights/two.bin", "weights/tow.bin", 8),
        ("first: weights/one.bin", "first: one.bin", 9),
        ("[front.png]\nguidance", "[back.png]\nguidance", 10),
        ("[depth.png, front.png]", "[depth.png, back.png]", 4),
    ],
)
def test_one_that_is_not_there_is_told_with_its_line(place: Path, old: str, new: str, line: int) -> None:
    (place / "run.yaml").write_text(RUN.replace(old, new))
    with pytest.raises(FileErrors) as caught:
        read_run_file(place / "run.yaml")
    (error,) = caught.value.errors
    assert error.line == line
    assert "no such file" in error.found


def test_they_are_digested_and_drawn_from_again(place: Path) -> None:
    (run,) = read_run_file(place / "run.yaml")
    result = weft.load(run.model).generate(run.scene, run.conditioners, run.guidance, **run.sampler.options())
    (path,) = result.save(place / "out")
    kept = read_provenance(path)
    assert {"../weights", "../weights/one.bin", "../weights/two.bin", "../front.png", "../depth.png"} == set(
        kept.provenance.references
    )
    assert draw_again(kept, path).equal
    (place / "weights" / "inner" / "three.bin").write_bytes(b"changed")
    with pytest.raises(weft.UserError, match=r"reference '\.\./weights': expected SHA-256"):
        draw_again(kept, path)


def test_an_item_is_another_one_when_a_file_in_a_folder_changes(place: Path) -> None:
    (before,) = plan(read_run_file(place / "run.yaml"))
    (place / "weights" / "inner" / "three.bin").write_bytes(b"changed")
    (after,) = plan(read_run_file(place / "run.yaml"))
    assert before.id != after.id


def test_open_images_of_a_plugin_are_kept_beside_the_drawn_one(place: Path) -> None:
    plugin = ManyFiles(pictures=(Image.new("RGB", (4, 4), "blue"),))
    result = weft.load(place / "model").generate(weft.Scene("a toy"), [plugin], (), steps=1)
    (path,) = result.save(place / "out")
    kept = read_provenance(path)
    (named,) = kept.provenance.references
    assert named.startswith("references/")
    assert draw_again(kept, path).equal
