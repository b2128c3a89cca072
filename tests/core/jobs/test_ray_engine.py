"""The Ray engine, on a real cluster of two nodes on this machine, with a worker that is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from weft import UserError, WeftError
from weft.core.api.generation_settings import GenerationSettings
from weft.core.jobs.events import Listener
from weft.core.jobs.job import Item, plan
from weft.core.runfile.read import read_run_file

RUN = """\
version: 1
model: tiny
scenes:
  - a red star on grass
  - {prompt: a blue fish on water, subjects: [{phrase: blue fish, images: [fish.png]}]}
sampler: {steps: 2, batch_size: 2}
seeds: {count: 4}
"""


class Heard(Listener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.pictures: dict[int, list[Image.Image]] = {}
        self.errors: list[tuple[int, WeftError]] = []

    def drawn(self, item: Item, image: Image.Image, settings: GenerationSettings) -> None:
        self.pictures.setdefault(item.number, []).append(image)

    def failed(self, items: Sequence[Item], error: WeftError) -> None:
        self.errors.append((len(items), error))

    def working(self, done: float, text: str) -> None:
        pass


class Noting:
    """A pipeline that notes every batch, and whose process is killed at the second batch of all, or at more."""

    def __init__(self, pipe: Any, folder: Path, deaths: int) -> None:
        self.pipe, self.folder, self.deaths = pipe, folder, deaths

    def generate(self, scenes: Any, *args: Any, **options: Any) -> Any:
        number = len(list(self.folder.iterdir()))
        (self.folder / f"{os.getpid()}-{number}").touch()
        if 1 <= number <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.pipe.generate(scenes, *args, **options)


class Mortal:
    """Loads such pipelines."""

    def __init__(self, folder: Path, deaths: int) -> None:
        self.folder, self.deaths = folder, deaths

    def __call__(self, model: str) -> Any:
        import weft

        return Noting(weft.load(model), self.folder, self.deaths)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    # by default workers yield to everything else on the machine, which a busy one would turn into minutes
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    # the loader above lives in a module that workers cannot import
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    memory = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
    try:
        made.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "fish.png")
    (tmp_path / "run.yaml").write_text(RUN)
    return plan(read_run_file(tmp_path / "run.yaml"))


@pytest.mark.slow
@pytest.mark.timeout(1200)  # every worker imports torch anew
def test_a_dead_worker_loses_one_batch(cluster: Any, items: list[Item], tmp_path: Path) -> None:
    from weft.core.jobs.engines.local import LocalEngine
    from weft.core.jobs.engines.ray import RayEngine

    notes = tmp_path / "notes"
    notes.mkdir()
    heard = Heard()
    engine = RayEngine(loader=Mortal(notes, deaths=1))
    assert engine.workers == 2
    engine.draw(items, heard)
    assert heard.errors == []
    assert sorted(heard.pictures) == list(range(8))
    assert {len(images) for images in heard.pictures.values()} == {1}
    processes = {path.name.split("-")[0] for path in notes.iterdir()}
    assert len(processes) == 3, "two workers and the one in place of the dead one"
    assert len(list(notes.iterdir())) == 4 + 1, "four batches of two, and one of them again"

    here = Heard()
    LocalEngine().draw(items, here)
    for number, (image,) in heard.pictures.items():
        difference = max(
            abs(a - b) for a, b in zip(image.tobytes(), here.pictures[number][0].tobytes(), strict=True)
        )
        assert difference <= 2


@pytest.mark.slow
@pytest.mark.timeout(1200)  # every worker imports torch anew
def test_a_batch_that_kills_every_worker_is_given_up(cluster: Any, items: list[Item], tmp_path: Path) -> None:
    from weft.core.jobs.engines.ray import TRIES, RayEngine

    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "0").touch()  # so that the very first batch dies
    heard = Heard()
    RayEngine(workers=1, loader=Mortal(notes, deaths=TRIES)).draw(items[:4], heard)
    assert [count for count, _ in heard.errors] == [2]
    assert f"a batch of 2 images was lost with {TRIES} workers" in str(heard.errors[0][1])
    assert sorted(heard.pictures) == [2, 3]


class Refusing:
    """Loads what refuses every scene."""

    def __call__(self, model: str) -> Any:
        return self

    def generate(self, *args: Any, **options: Any) -> Any:
        raise UserError("subject 'fish', field 'box'", "a box", "none", "Draw one.")


@pytest.mark.slow
@pytest.mark.timeout(1200)  # every worker imports torch anew
def test_a_workers_error_keeps_its_fields(cluster: Any, items: list[Item]) -> None:
    from weft.core.jobs.engines.ray import RayEngine

    heard = Heard()
    RayEngine(workers=1, loader=Refusing()).draw(items[:2], heard)
    ((count, error),) = heard.errors
    assert count == 2
    assert type(error) is UserError
    fields = (error.place, error.expected, error.found, error.hint)
    assert fields == ("subject 'fish', field 'box'", "a box", "none", "Draw one.")


def test_without_ray_the_engine_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from weft import UserError

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "weft.core.jobs.engines.ray", raising=False)
    with pytest.raises(
        UserError, match=r"--engine ray: expected the package 'ray'.*pip install 'weft\[ray\]'"
    ):
        import weft.core.jobs.engines.ray  # noqa: F401
    sys.modules.pop("weft.core.jobs.engines.ray", None)


@pytest.mark.parametrize(
    ("given", "environment", "asked"),
    [(None, None, "local"), (None, "10.0.0.1:6379", "10.0.0.1:6379"), ("auto", "10.0.0.1:6379", "auto")],
)
def test_without_an_address_no_cluster_on_record_is_waited_for(
    given, environment, asked, monkeypatch
) -> None:
    """A killed cluster leaves its address in a file, which Ray would go by."""
    ray = pytest.importorskip("ray")
    from weft.core.jobs.engines.ray import RayEngine

    if environment is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    addresses = []

    def refuse(address: str, **options: Any) -> None:
        addresses.append(address)
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match="a Ray cluster that can be reached, found nobody there"):
        RayEngine(given)
    assert addresses == [asked]
