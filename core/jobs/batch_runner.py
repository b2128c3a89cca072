"""Drawing items with the model in this process: in batches that fit into memory, one failure beside the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from ..api.generation_settings import GenerationSettings
from ..api.load_settings import LoadSettings
from ..errors import UserError, WeftError
from ..load import load
from ..pipeline import Pipeline
from ..sampling.progress import Progress
from ..scene.reading import without_warnings
from .batch_size import BatchSize, Memory, out_of_memory, release
from .events import Listener
from .job import Item


@dataclass(frozen=True)
class _Attempt:
    settings: GenerationSettings | None = None
    images: Sequence[Image.Image] = ()
    error: WeftError | None = None


class Drawer:
    """Draws items and keeps the models that it has loaded.

    Args:
        loader: gives a pipeline for a model's name or path, and what `LoadSettings` says otherwise than by default;
            `weft.load` by default.
        memory: see `BatchSize`.
    """

    def __init__(self, loader: Callable[..., Pipeline] | None = None, memory: Memory | None = None) -> None:
        self._load = loader or load
        self._memory = memory
        self._pipes: dict[tuple[str, LoadSettings], Pipeline] = {}

    def draw(self, items: Sequence[Item], listener: Listener) -> None:
        """Draw items of one group, whose scenes and seeds may differ.

        A batch that memory cannot take is halved; a run that fails is reported to the listener and the others go on.
        """
        if not items:
            return
        first = items[0].run
        try:
            pipe = self._pipeline(first.model, first.load, listener)
        except WeftError as error:
            listener.failed(items, error)
            return
        # exact mode draws each image alone in any case: one by one they are kept as soon as they are drawn
        size = BatchSize(1 if first.reproducibility == "exact" else first.sampler.batch_size, self._memory)
        left = list(items)
        alone = False
        while left:
            count = one_run(left, size.now) if alone else rectangle(left, size.now)
            batch = left[:count]
            attempt = self._attempt(pipe, batch, listener)
            if attempt is None:
                release()
                if not size.failed(count):
                    left = self._too_large(batch, left, listener)
            elif attempt.error is not None:
                if len({id(item.run) for item in batch}) > 1:
                    alone = True  # one scene of several is wrong: find out which
                    continue
                broken = [item for item in left if item.run is batch[0].run]
                listener.failed(broken, attempt.error)
                left = [item for item in left if item.run is not batch[0].run]
            elif attempt.settings is not None:
                for item, image in zip(batch, attempt.images, strict=True):
                    listener.drawn(item, image, attempt.settings)
                size.fitted(count)
                left = left[count:]

    def _pipeline(self, model: str, settings: LoadSettings, listener: Listener) -> Pipeline:
        key = model, settings
        if key not in self._pipes:
            listener.working(0.0, "loading")
            self._pipes[key] = self._load(model, **settings.options())
        return self._pipes[key]

    def _attempt(self, pipe: Pipeline, batch: Sequence[Item], listener: Listener) -> _Attempt | None:
        """Draw one batch; None when memory ran out. What it held is let go when this returns."""
        scenes = list({id(item.run): item.run.scene for item in batch}.values())
        run = batch[0].run

        def tell(now: Progress) -> None:
            listener.working(now.fraction * now.images, f"step {now.step} of {now.steps}")

        try:
            with without_warnings():
                result = pipe.generate(
                    scenes,
                    run.conditioners,
                    run.guidance,
                    **replace(run.sampler, batch_size=len(batch)).options(),
                    seeds=[item.seed for item in batch[: len(batch) // len(scenes)]],
                    reproducibility=run.reproducibility,
                    attention=False,
                    progress=tell,
                )
        except Exception as error:
            if out_of_memory(error):
                return None
            if isinstance(error, WeftError):
                return _Attempt(error=error.with_traceback(None))
            raise
        return _Attempt(result.settings, result.images)

    def _too_large(self, batch: Sequence[Item], left: list[Item], listener: Listener) -> list[Item]:
        """Give up the run of an image that memory cannot take."""
        hint = "Draw smaller images, or on a machine with more memory."
        error = UserError(f"scene '{batch[0].run.scene.prompt}'", "memory for one image", "less", hint)
        listener.failed([item for item in left if item.run is batch[0].run], error)
        return [item for item in left if item.run is not batch[0].run]


def one_run(items: Sequence[Item], size: int) -> int:
    """How many of the first items, at most ``size``, are of one run."""
    run = items[0].run
    count = 0
    while count < min(size, len(items)) and items[count].run is run:
        count += 1
    return count


def rectangle(items: Sequence[Item], size: int) -> int:
    """How many of the first items, at most ``size``, are some runs with the same seeds each."""
    seeds = one_run(items, len(items))
    if seeds >= size:
        return size
    first = [item.seed for item in items[:seeds]]
    count = seeds
    while count + seeds <= size:
        block = items[count : count + seeds + 1]
        same_run = len({id(item.run) for item in block[:seeds]}) == 1
        ends = len(block) <= seeds or block[seeds].run is not block[0].run
        if len(block) < seeds or not (same_run and ends and [item.seed for item in block[:seeds]] == first):
            break
        count += seeds
    return count
