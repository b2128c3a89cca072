"""Items, the manifest, and batches that fit into memory."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from weft import PluginError, Scene, UserError, WeftError
from weft.core.api.generation_settings import GenerationSettings
from weft.core.jobs.batch_runner import Drawer, rectangle
from weft.core.jobs.batch_size import BatchSize, out_of_memory
from weft.core.jobs.events import Listener
from weft.core.jobs.job import Item, plan
from weft.core.jobs.manifest import Manifest
from weft.core.jobs.output_folder import Store
from weft.core.pipeline import Pipeline
from weft.core.runfile.read import read_run_file
from weft.core.runfile.run import Run
from weft.testing import random_pipeline

RUN = """\
version: 1
model: tiny
prompt: a toy and a star
subjects: [{phrase: toy, images: [toy.png]}]
sampler: {steps: 1, width: 32, height: 32}
seeds: [0, 1, 2]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "toy.png")
    return tmp_path


def read(folder: Path, text: str = RUN) -> list[Run]:
    (folder / "run.yaml").write_text(text)
    return read_run_file(folder / "run.yaml")


def ids(folder: Path, text: str = RUN) -> list[str]:
    return [item.id for item in plan(read(folder, text))]


def test_ids_depend_on_what_the_picture_depends_on(folder: Path) -> None:
    first = ids(folder)
    assert len(set(first)) == 3
    for same in (
        RUN,
        RUN + "guidance: [classifier_free]",
        RUN + "guidance: [{type: classifier_free, scale: 7.50}]",
        RUN.replace("steps: 1,", "steps: 1, scheduler: ddim, batch_size: 2,"),
        RUN + "metrics: [objects]",
    ):
        assert ids(folder, same) == first
    (folder / "renamed.png").write_bytes((folder / "toy.png").read_bytes())
    assert ids(folder, RUN.replace("toy.png", "renamed.png")) == first
    for other in (
        RUN + "guidance: [{type: classifier_free, scale: 7}]",
        RUN.replace("steps: 1", "steps: 2"),
        RUN.replace("a star", "a moon"),
        RUN.replace("model: tiny", "model: .").replace("model: .", "model: me/hub"),
        RUN + "reproducibility: exact",
    ):
        assert not set(ids(folder, other)) & set(first)
    Image.new("RGB", (8, 8), "blue").save(folder / "toy.png")
    assert not set(ids(folder)) & set(first)


def test_the_batch_size_changes_no_id(folder: Path) -> None:
    for run in (RUN, RUN + "reproducibility: exact"):
        assert ids(folder, run) == ids(folder, run.replace("steps: 1", "steps: 1, batch_size: 2"))


def test_equal_points_of_a_sweep_are_one_item(folder: Path) -> None:
    assert len(ids(folder, RUN + "sweep: {guidance.0.scale: [5, 5.0, 6]}")) == 6


def made(seeds: Sequence[Sequence[int]]) -> list[Item]:
    items: list[Item] = []
    for number, several in enumerate(seeds):
        run = _run(f"a toy number {number}", tuple(several))
        items += [Item(len(items) + i, run, seed, f"{number}/{seed}", "g") for i, seed in enumerate(several)]
    return items


def _run(prompt: str, seeds: tuple[int, ...]) -> Run:
    from weft.core.api.sampler_settings import SamplerSettings

    sampler = SamplerSettings(steps=1, width=32, height=32)
    return Run("random", Scene(prompt), (), (), sampler, seeds, {})


@pytest.mark.parametrize(
    ("seeds", "size", "count"),
    [
        ([[0, 1, 2]], 8, 3),
        ([[0, 1, 2]], 2, 2),
        ([[0], [0], [0], [0]], 3, 3),
        ([[0, 1], [0, 1], [0, 1]], 5, 4),
        ([[0, 1], [0, 2]], 8, 2),
        ([[0, 1], [0, 1, 2]], 8, 2),
        ([[0, 1], [0]], 8, 2),
        ([[0, 1, 2], [0, 1]], 8, 3),
    ],
)
def test_batches_are_scenes_with_the_same_seeds(seeds: list[list[int]], size: int, count: int) -> None:
    assert rectangle(made(seeds), size) == count


class Heard(Listener):
    def __init__(self) -> None:
        self.drawn_: list[str] = []
        self.images: list[Image.Image] = []
        self.errors: list[tuple[list[str], WeftError]] = []

    def drawn(self, item: Item, image: Image.Image, settings: GenerationSettings) -> None:
        self.drawn_.append(item.id)
        self.images.append(image)

    def failed(self, items: Sequence[Item], error: WeftError) -> None:
        self.errors.append(([item.id for item in items], error))

    def working(self, done: float, text: str) -> None:
        pass


class Small:
    """Makes every pipeline draw as on a machine with room for ``room`` images."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int, error: BaseException) -> None:
        self.batches: list[int] = []
        self.pipe = random_pipeline()
        generate = Pipeline.generate

        def limited(
            pipe: Pipeline, scenes: Sequence[Scene], *args: Any, seeds: Sequence[int], **options: Any
        ) -> Any:
            self.batches.append(len(scenes) * len(seeds))
            if self.batches[-1] > room:
                raise error
            if any("wrong" in scene.prompt for scene in scenes):
                raise UserError("scene", "a right one", "a wrong one")
            return generate(pipe, scenes, *args, seeds=seeds, **options)

        patch.setattr(Pipeline, "generate", limited)

    def drawer(self) -> Drawer:
        return Drawer(lambda model: self.pipe)


def wrapped() -> PluginError:
    error = PluginError("energy", "step 3", "OutOfMemoryError")
    error.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    return error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        wrapped(),
    ],
    ids=["gpu", "linux", "windows", "in a plugin"],
)
def test_a_batch_that_memory_cannot_take_is_halved(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    pipe, heard = Small(monkeypatch, 3, error), Heard()
    items = made([range(12)])
    pipe.drawer().draw(items, heard)
    assert pipe.batches == [8, 4, 2, 2, 2, 2, 2, 2]
    assert heard.drawn_ == [item.id for item in items]
    assert heard.errors == []
    alone = pipe.pipe.generate([items[0].run.scene], (), (), steps=1, seeds=[7], width=32, height=32)
    assert (
        max(abs(a - b) for a, b in zip(heard.images[7].tobytes(), alone.images[0].tobytes(), strict=True))
        <= 1
    )


def test_a_picture_too_large_for_memory_is_told_and_the_next_run_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe, heard = Small(monkeypatch, 0, MemoryError()), Heard()
    pipe.drawer().draw(made([[0, 1], [0, 1]]), heard)
    assert [names for names, _ in heard.errors] == [["0/0", "0/1"], ["1/0", "1/1"]]
    assert "expected memory for one image" in str(heard.errors[0][1])
    assert pipe.batches == [4, 2, 1, 1]


def test_other_errors_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not out_of_memory(RuntimeError("shapes do not match"))
    pipe = Small(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        pipe.drawer().draw(made([[0]]), Heard())


def test_one_wrong_scene_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, heard = Small(monkeypatch, 99, MemoryError()), Heard()
    items = made([[0], [0], [0]])
    wrong = _run("a wrong toy", (0,))
    items[1] = Item(1, wrong, 0, "wrong", "g")
    pipe.drawer().draw(items, heard)
    assert heard.drawn_ == ["0/0", "2/0"]
    assert [names for names, _ in heard.errors] == [["wrong"]]


def test_batches_grow_while_memory_is_left() -> None:
    size = BatchSize(memory=lambda: (10, 100))
    sizes = []
    for _ in range(4):
        sizes.append(size.now)
        size.fitted(size.now)
    assert sizes == [8, 16, 32, 64]
    assert BatchSize(4, memory=lambda: (10, 100)).now == 4
    full = BatchSize(memory=lambda: (41, 100))
    full.fitted(8)
    assert full.now == 8
    assert size.failed(64)
    size.fitted(32)
    assert size.now == 32, "what once failed is not tried again"


def test_a_manifest_outlives_a_kill(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    manifest = Manifest(tmp_path)
    manifest.add({"id": "1", "file": "a.png", "sha256": digest})
    with open(manifest.path, "ab") as file:
        file.write(b'{"id": "2", "fi')
    cut = manifest.path.read_bytes()
    again = Manifest(tmp_path)
    assert manifest.path.read_bytes() == cut, "who reads writes nothing"
    assert len(again) == 1
    assert again.finished("1")
    assert not again.finished("2")
    again.add({"id": "3", "file": "gone.png", "sha256": digest})
    lines = [json.loads(line) for line in manifest.path.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["1", "3"]
    assert not Manifest(tmp_path).finished("3")
    (tmp_path / "a.png").write_bytes(b"b")
    assert not Manifest(tmp_path).finished("1"), "an image that has changed is drawn anew"


def test_a_line_may_hold_any_separator(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    prompt = "a\u2028b\u2029c\x85d\x0be\x1cf\rg\nh"
    Manifest(tmp_path).add({"id": "1", "file": "a.png", "sha256": digest, "prompt": prompt})
    again = Manifest(tmp_path)
    assert again.finished("1")
    again.add({"id": "2", "file": "a.png", "sha256": digest})
    assert [line.get("prompt") for line in Manifest(tmp_path).lines()] == [prompt, None]


def test_a_manifest_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "a.png").write_bytes(b"a")
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    manifest = Manifest(tmp_path / "out")
    manifest.add({"id": "1", "file": "../a.png", "sha256": digest})
    assert not manifest.finished("1")


def test_a_store_measures_what_is_asked_for(folder: Path) -> None:
    items = plan(read(folder, RUN + "metrics: [objects, placement]"))
    store = Store(folder / "out")
    pipe = random_pipeline()
    made = pipe.generate(items[0].run.scene, steps=1, seeds=[0], width=32, height=32)
    assert store.keep(items[0], made.images[0], made.settings) is None
    assert store.missing(items) == items[1:]
    values = store.values(items[0])
    assert set(values) == {"objects", "placement"}
    assert values["placement"] is None, "no subject has a box"
    (more, *_) = plan(read(folder, RUN + "metrics: [objects, background]"))
    assert store.measure(more) is None
    assert set(Store(folder / "out").values(more)) == {"objects", "placement", "background"}


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="this system cannot open folders")
def test_a_store_flushes_names_once_a_run_and_every_picture_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, *_ = plan(read(folder))
    store = Store(folder / "out")
    made = random_pipeline().generate(item.run.scene, steps=1, seeds=[0], width=32, height=32)
    flushed: list[bool] = []  # of every flush, whether it was a folder's
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    assert store.keep(item, made.images[0], made.settings) is None
    assert flushed, "an image's bytes are on the disk before its line is"
    assert not any(flushed)
    flushed.clear()
    store.flush()
    assert flushed == [True]


def test_a_store_whose_folder_is_gone_says_so(folder: Path) -> None:
    store = Store(folder / "out")
    (folder / "out").rmdir()
    with pytest.raises(UserError, match="out"):
        store.flush()
