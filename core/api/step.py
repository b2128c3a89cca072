"""Where the sampler is. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from .branches import Branch


@dataclass(frozen=True)
class Step:
    """Where the sampler is.

    Args:
        index: 0 to total - 1; a multistep scheduler may take one more call than the steps asked for.
        total: number of scheduler calls.
        timestep: the scheduler's timestep, on the training grid of 0 to 999.
        full: the branch with every conditioner of the run present.
        visit: how often this step was taken before; see `Guidance.travel_back`.
    """

    index: int
    total: int
    timestep: float
    full: Branch
    visit: int = 0

    @property
    def fraction(self) -> float:
        """Share of the steps that are done, in [0, 1)."""
        return self.index / self.total
