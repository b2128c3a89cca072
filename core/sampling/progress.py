"""Progress of a generation, as numbers for a caller or as a bar in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..api.guidance import Step
from .events import Events, State
from .trace import Trace


@dataclass(frozen=True)
class Progress:
    """Where a generation is.

    Args:
        images_done: images finished before this batch.
        images_now: images in this batch.
        images: of the whole generation.
        step: scheduler calls finished in this batch, from 1.
        steps: scheduler calls of a batch.
        update: refinement updates made so far in the step under way; 0 where none is.
        strategy: the name of the strategy that makes them.
        latents: (s, c, h, w), after the step, as the scheduler scales them; None within a step.
    """

    images_done: int
    images_now: int
    images: int
    step: int
    steps: int
    update: int = 0
    strategy: str = ""
    latents: Tensor | None = field(default=None, repr=False, compare=False)
    _clean: Callable[[], Tensor | None] = field(default=lambda: None, repr=False, compare=False)

    def clean(self) -> Tensor | None:
        """What the step's prediction takes for the latents without noise (x0), (s, c, h, w), for `Pipeline.decode`.

        None within a step, and where the scheduler does not say how much noise there is.
        """
        return self._clean()

    @property
    def fraction(self) -> float:
        """Share of the whole generation that is done, in [0, 1]."""
        return (self.images_done + self.images_now * self.step / self.steps) / self.images

    def __str__(self) -> str:
        if not self.update:
            return f"step {self.step} of {self.steps}"
        return f"step {self.step + 1} of {self.steps}, {self.strategy}: update {self.update}"


class ProgressEvents(Events):
    """Turns the events of one generation into its `Progress`.

    Args:
        report: called with the progress after every step and every refinement update.
        on_batch: called with the `Result` of every finished batch.
        images: of the whole generation.
        previews: whether `Progress.clean` may be asked for.
    """

    def __init__(
        self,
        report: Callable[[Progress], None],
        on_batch: Callable[[Any], None] | None,
        images: int,
        previews: bool = False,
    ) -> None:
        self.previews = previews
        self._report, self._on_batch, self._images = report, on_batch, images
        self._done = self._now = 0

    def batch_started(self, images: int) -> None:
        self._now = images

    def refined(self, step: Step, strategy: str, update: int) -> None:
        self._report(Progress(self._done, self._now, self._images, step.index, step.total, update, strategy))

    def step_finished(self, trace: Trace, state: State) -> None:
        step = trace.step
        done, now = self._done, self._now
        index, latents, clean = step.index + 1, state.latents, state.clean
        self._report(Progress(done, now, self._images, index, step.total, latents=latents, _clean=clean))

    def batch_finished(self, result: Any) -> None:
        self._done += self._now
        if self._on_batch is not None:
            self._on_batch(result)


@contextmanager
def bar(progress: bool | Callable[[Progress], None], images: int) -> Iterator[Callable[[Progress], None]]:
    """A function to report to: the caller's own, one that draws a bar, or one that does nothing."""
    if progress is True:
        from ..report.progress_bar import progress_bar

        with progress_bar(images) as show:
            yield lambda now: show(now.fraction * images, str(now))
    elif callable(progress):
        yield progress
    else:
        yield lambda now: None
