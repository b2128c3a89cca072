"""Where a run begins and ends: with noise, with a source of some strength, or with latents that are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..api.schedulers import Scheduler


@dataclass(frozen=True)
class Start:
    """What the latents are at first, and which steps are taken.

    Args:
        latents: standard normal noise; with a strength and no source, latents of the step where the run begins.
        strength: share of the steps that are taken, up to the last; None for all, from noise alone.
        until: share of the steps after which the run ends; None for the last.
        source: latents without noise, for a strength.
        clean: whether `latents` are without noise already, as inversion begins.
    """

    latents: Float[Tensor, "s c h w"]
    strength: float | None = None
    until: float | None = None
    source: Float[Tensor, "s c h w"] | None = None
    clean: bool = False

    def calls(self, scheduler: Scheduler, steps: int) -> range:
        """The scheduler's calls that are made, by their indices; its timesteps are set.

        As in diffusers' StableDiffusionImg2ImgPipeline, ``int(steps * strength)`` steps are taken, at least one.
        """
        own: Any = scheduler
        order, calls = getattr(own, "order", 1), len(scheduler.timesteps)
        taken = steps if self.strength is None else max(1, min(int(steps * self.strength), steps))
        # the same rule from the other end, so that strength s goes on where until 1 - s ended
        left = 0 if self.until is None else int(steps * (1.0 - self.until) + 1e-9)
        first = (steps - taken) * order
        last = calls if left == 0 else (steps - left) * order
        return range(first, max(last, first + 1))

    def begun(self, scheduler: Scheduler, first: int) -> Float[Tensor, "s c h w"]:
        """The latents to begin with, at the call of this index."""
        if self.clean:
            return self.latents
        if self.strength is None:
            return self.latents * scheduler.init_noise_sigma
        if self.source is None:
            return self.latents
        return scheduler.add_noise(self.source, self.latents, scheduler.timesteps[first][None])
