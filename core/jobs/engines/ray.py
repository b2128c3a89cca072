"""The engine that spreads items over an existing Ray cluster; Ray places the workers and shares out the GPUs.

Every worker is an actor that keeps its models. It is handed one batch at a time, so a worker that dies loses one batch,
which another worker then draws. Needs ``pip install 'weft[ray]'``; this module alone imports Ray.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ...api.generation_settings import GenerationSettings
from ...api.sampler_settings import BATCH_SIZE
from ...errors import UserError, WeftError
from ...pipeline import Pipeline
from ...runfile.run import Run
from ...scene.portable import decoded_image
from ..batch_runner import Drawer, rectangle
from ..events import Listener
from ..job import Item
from . import Engine, EngineSettings, groups

try:
    import ray
    from ray.exceptions import RayActorError, RayError, RayTaskError
except ImportError:
    hint = "Install it with: pip install 'weft[ray]'"
    raise UserError("--engine ray", "the package 'ray'", "none installed", hint) from None

TRIES = 3
"""Workers that a batch is handed to before it is given up."""
POLL_SECONDS = 1.0
DEATHS_IN_A_ROW = 6
"""Workers that die one after the other, none of them having drawn anything, before all is given up."""


@dataclass(frozen=True)
class Drawn:
    """What comes back of a batch: images by the numbers of their items, and what failed."""

    images: Sequence[tuple[int, Image.Image, GenerationSettings]]
    failures: Sequence[tuple[Sequence[int], WeftError]]


class Worker:
    """Holds the models and draws batches; made an actor by `RayEngine`."""

    def __init__(self, loader: Callable[[str], Pipeline] | None = None) -> None:
        self._drawer = Drawer(loader)

    def draw(self, items: Sequence[Item]) -> Drawn:
        """Draw one batch of items of a group."""
        heard = _Collector()
        self._drawer.draw(items, heard)
        return Drawn(tuple(heard.images), tuple(heard.failures))


class _Collector(Listener):
    def __init__(self) -> None:
        self.images: list[tuple[int, Image.Image, GenerationSettings]] = []
        self.failures: list[tuple[Sequence[int], WeftError]] = []

    def drawn(self, item: Item, image: Image.Image, settings: GenerationSettings) -> None:
        self.images.append((item.number, image, settings))

    def failed(self, items: Sequence[Item], error: WeftError) -> None:
        self.failures.append(([item.number for item in items], error))

    def working(self, done: float, text: str) -> None:
        pass


@dataclass(frozen=True)
class _Batch:
    items: Sequence[Item]
    tries: int = 0


class RayEngine(Engine):
    """Draws on a Ray cluster.

    Args:
        address: of the cluster, for example ``auto`` or ``ray://host:10001``; by default the one that ``RAY_ADDRESS``
            names, else one that is made on this machine for as long as the engine draws.
        workers: how many; by default one for each GPU, or one for each node of a cluster without GPUs.
        loader: gives a worker its pipelines; `weft.load` by default.

    Raises:
        UserError: there is no such cluster.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        loader: Callable[[str], Pipeline] | None = None,
    ) -> None:
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                # without an address Ray would wait for a cluster that a killed process has left on record
                ray.init(address=address or os.environ.get("RAY_ADDRESS") or "local", log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                place = f"--ray-address {address}" if address else "--engine ray"
                raise UserError(place, "a Ray cluster that can be reached", str(error)) from None
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        self.workers = workers or gpus or nodes
        # without GPUs a worker is spread to another node while there is one, and shares no core with another worker
        self._options: dict[str, Any] = (
            {"num_gpus": 1 if gpus >= self.workers else gpus / self.workers, "num_cpus": 1}
            if gpus
            else {"num_cpus": 1}
        )
        self._options |= {"max_restarts": 0, "scheduling_strategy": "SPREAD"}
        self._loader = loader

    def draw(self, items: Sequence[Item], listener: Listener) -> None:
        waiting = deque(_batches(items))
        busy: dict[Any, tuple[Any, _Batch]] = {}
        idle: list[Any] = []
        deaths = 0
        by_number = {item.number: item for item in items}
        try:
            idle = [self._worker() for _ in range(min(self.workers, len(waiting)))]
            while waiting or busy:
                while waiting and idle:
                    batch, worker = waiting.popleft(), idle.pop()
                    busy[worker.draw.remote(portable(batch.items))] = (worker, batch)
                ready, _ = ray.wait(list(busy), num_returns=1, timeout=POLL_SECONDS)
                listener.working(0.0, f"{len(busy)} workers")
                for reference in ready:
                    worker, batch = busy.pop(reference)
                    try:
                        drawn: Drawn = ray.get(reference)
                    except RayTaskError as error:  # a bug, which another worker would meet too
                        listener.failed(batch.items, WeftError(f"worker: {error.cause}"))
                        idle.append(worker)
                    except (RayActorError, RayError) as error:
                        deaths += 1
                        again = replace(batch, tries=batch.tries + 1)
                        if again.tries < TRIES and deaths < DEATHS_IN_A_ROW:
                            waiting.appendleft(again)
                        else:
                            listener.failed(batch.items, _lost(batch, error))
                        idle.append(self._worker())
                    else:
                        deaths = 0
                        idle.append(worker)
                        for number, image, settings in drawn.images:
                            listener.drawn(by_number[number], image, settings)
                        for numbers, failure in drawn.failures:
                            listener.failed([by_number[number] for number in numbers], failure)
                if deaths >= DEATHS_IN_A_ROW and not busy:
                    for batch in waiting:
                        listener.failed(
                            batch.items, WeftError("every worker dies; is there memory for the model?")
                        )
                    return
        finally:
            for worker in [*idle, *(worker for worker, _ in busy.values())]:
                ray.kill(worker)
            if self._ours:
                ray.shutdown()

    def _worker(self) -> Any:
        return ray.remote(Worker).options(**self._options).remote(self._loader)


def engine(settings: EngineSettings) -> Engine:
    """Connects to the cluster."""
    return RayEngine(settings.address, settings.workers)


def portable(items: Sequence[Item]) -> list[Item]:
    """Items with their images read: a worker need not see the driver's disk, except for the model."""
    runs: dict[int, Run] = {}
    for item in items:
        if id(item.run) not in runs:
            scene = item.run.scene.map_images(lambda image: decoded_image(image.source, image.place))
            runs[id(item.run)] = replace(item.run, scene=scene)
    return [replace(item, run=runs[id(item.run)]) for item in items]


def _batches(items: Sequence[Item]) -> Iterator[_Batch]:
    for group in groups(items):
        size = group[0].run.sampler.batch_size or BATCH_SIZE
        while group:
            count = rectangle(group, size)
            yield _Batch(group[:count])
            group = group[count:]


def _lost(batch: _Batch, error: Exception) -> WeftError:
    first = str(error).strip().splitlines()
    cause = first[0] if first else type(error).__name__
    return WeftError(f"a batch of {len(batch.items)} images was lost with {TRIES} workers: {cause}")
