"""Moving the latents by one step: the scheduler's own, or sum and update in one operation; and a watch for faults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from ...kernels.combine import combine_and_step
from ..api.branches import LinearForm
from ..api.predictions import Predictions
from ..api.schedulers import Scheduler
from ..errors import PluginError
from .fused_updates import updates


class Stepper:
    """A scheduler for one batch, whose timesteps are set.

    Args:
        scheduler: used for this batch only: multistep schedulers keep a history.
        generators: one per sample, for a scheduler whose step draws noise.
        options: of its step.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        generators: Sequence[torch.Generator] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._scheduler: Any = scheduler
        draws = "generator" in inspect.signature(scheduler.step).parameters
        self._options = {"generator": list(generators)} if draws else {}
        self._options.update(options or {})
        self._own_step = bool(options)
        self.start(0)

    def start(self, index: int) -> None:
        """Make ready for a first step of this index, without a history; the timesteps have just been set."""
        if index and hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(index)
        self._updates = None if self._own_step else updates(self._scheduler, index)
        self._clean: Tensor | None = None

    def begin(self, index: int) -> None:
        """Set the step of a scheduler that counts its steps; to look for itself it would have to wait for a GPU."""
        counts = isinstance(self._scheduler, EulerDiscreteScheduler | DPMSolverMultistepScheduler)
        if self._updates is not None and counts:
            self._scheduler._step_index = index

    def step(
        self,
        index: int,
        predictions: Predictions,
        form: LinearForm,
        guided: Float[Tensor, "s c h w"] | None,
        latents: Float[Tensor, "s c h w"],
    ) -> tuple[Float[Tensor, "s c h w"], Tensor | None]:
        """The next latents, and how many elements are not finite where that came for nothing.

        Args:
            index: of the step.
            predictions: of the branches.
            form: weighs them.
            guided: to be used in place of the form's value, when a strategy made one of it.
            latents: before the step.
        """
        if self._updates is None:
            guided = predictions.sum(form) if guided is None else guided
            timestep = self._scheduler.timesteps[index]
            moved = self._scheduler.step(guided, timestep, latents, return_dict=False, **self._options)[0]
            return moved, None
        tensors, coefficients = predictions.raw(form) if guided is None else ([guided], [])
        moved, self._clean, faults = combine_and_step(
            tensors, coefficients, latents, self._updates[index], self._clean
        )
        return moved, faults


class Watch:
    """Finds the step after which latents are not finite: at once on a CPU; on a GPU at the end, waiting only once."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, LinearForm, Tensor]] = []

    def add(
        self, index: int, form: LinearForm, latents: Float[Tensor, "s c h w"], faults: Tensor | None
    ) -> None:
        """Look at a step's latents, or remember to.

        Args:
            index: of the step.
            form: that was evaluated, for the message.
            latents: after the step.
            faults: how many elements of them are not finite, when that is known.

        Raises:
            PluginError: the latents are on a CPU and not finite.
        """
        not_finite = ~torch.isfinite(latents) if faults is None else faults
        self._kept.append((index, form, not_finite))
        if latents.device.type == "cpu":
            self.finish()

    def finish(self) -> None:
        """Look at what was only remembered.

        Raises:
            PluginError: latents were not finite; it names the first step.
        """
        for index, form, not_finite in self._kept:
            if not_finite.cpu().numpy().any():
                raise PluginError(
                    "sampler", f"step {index}", f"the latents are not finite; the form was {form}"
                )
        self._kept.clear()
