"""What the steps of a batch did and cost."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.branches import LinearForm
from ..api.guidance import Step


@dataclass(frozen=True)
class Descent:
    """What one energy did at one step.

    Args:
        name: of the strategy.
        losses: by evaluation, the loss of every sample: before the first update, and after each but the last.
        updates: refinement updates that each sample made; the ordinary one, which follows, is not among them.
    """

    name: str
    losses: tuple[tuple[float, ...], ...]
    updates: tuple[int, ...]

    @property
    def gradients(self) -> int:
        """How often the UNet ran as far as the last map, and back; each time for all samples of the batch."""
        return len(self.losses)


@dataclass(frozen=True)
class Trace:
    """What one step of a batch did and cost.

    Args:
        step: which one.
        form: the branches that were evaluated, and their coefficients. A coefficient of 0 is a branch that only a
            strategy's `combine` reads.
        evaluations: UNet evaluations of one image; fewer than branches where several came to the same input.
        descents: of every energy that moved the latents before them, in the order of the chain.
        seconds: by strategy, the branches that were evaluated again at other latents; they are among the evaluations.
    """

    step: Step
    form: LinearForm
    evaluations: int
    descents: tuple[Descent, ...] = ()
    seconds: tuple[tuple[str, LinearForm], ...] = ()
