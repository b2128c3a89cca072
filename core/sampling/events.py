"""What happens while images are sampled, for whoever wants to hear of it."""

from __future__ import annotations

from typing import Any

from ..api.guidance import Step
from .trace import Trace


class Events:
    """A listener; every method is called after the fact and does nothing unless it is overridden."""

    def batch_started(self, images: int) -> None:
        """A batch of so many images is about to be denoised."""

    def refined(self, step: Step, strategy: str, update: int) -> None:
        """An energy has made its refinement update of this number, from 1, before a step."""

    def step_finished(self, trace: Trace) -> None:
        """A step of the batch is done."""

    def batch_finished(self, result: Any) -> None:
        """A batch is done; `result` is the `Result` of its images."""
