"""What happens while images are sampled, for whoever wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..api.guidance import Step
from .trace import Trace


@dataclass(frozen=True)
class State:
    """What a step has come to.

    Args:
        latents: after the step, as the scheduler scales them.
        clean: computes what the step's prediction takes for the latents without noise; None where the scheduler does
            not say how much noise there is.
    """

    latents: Float[Tensor, "s c h w"]
    clean: Callable[[], Float[Tensor, "s c h w"] | None]


class Events:
    """A listener; every method is called after the fact and does nothing unless it is overridden.

    Attributes:
        previews: whether it may ask for `State.clean`.
    """

    previews = False

    def batch_started(self, images: int) -> None:
        """A batch of so many images is about to be denoised."""

    def refined(self, step: Step, strategy: str, update: int) -> None:
        """An energy has made its refinement update of this number, from 1, before a step."""

    def step_finished(self, trace: Trace, state: State) -> None:
        """A step of the batch is done."""

    def batch_finished(self, result: Any) -> None:
        """A batch is done; `result` is the `Result` of its images."""
