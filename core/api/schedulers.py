"""diffusers' schedulers by the names that run files use: one table, which schema, docs and image texts are made of.

Free of torch until a scheduler is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class SchedulerEntry:
    """What is known of a scheduler.

    Args:
        diffusers: the name of its class in diffusers.
        a1111: what AUTOMATIC1111's web interface calls it.
        update: the kind of `weft.kernels.combine.Update` that its step is when it draws no noise; None where
            diffusers' own `step` is called.
    """

    diffusers: str
    a1111: str
    update: str | None = None

    @property
    def scheduler_class(self) -> Any:
        """The class of diffusers."""
        import diffusers

        return getattr(diffusers, self.diffusers)


SCHEDULERS = {
    "ddim": SchedulerEntry("DDIMScheduler", "DDIM", "ddim"),
    "euler": SchedulerEntry("EulerDiscreteScheduler", "Euler", "euler"),
    "euler_ancestral": SchedulerEntry("EulerAncestralDiscreteScheduler", "Euler a"),
    "dpmpp_2m": SchedulerEntry("DPMSolverMultistepScheduler", "DPM++ 2M", "dpmpp_2m"),
    "pndm": SchedulerEntry("PNDMScheduler", "PLMS"),
    "unipc": SchedulerEntry("UniPCMultistepScheduler", "UniPC"),
}


@runtime_checkable
class Scheduler(Protocol):
    """What a generation uses of diffusers' schedulers.

    Attributes:
        config: its settings; items are attributes too.
        timesteps: of the steps, once they are set.
        init_noise_sigma: the standard deviation of the latents at the first step.
    """

    config: Any
    timesteps: Tensor
    init_noise_sigma: float | Tensor

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Choose the timesteps; some schedulers take one call more than the steps that are asked for."""

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The latents as the UNet reads them: times one number for each timestep."""

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool, **options: Any
    ) -> tuple[Tensor, ...]:
        """The next latents come first. Those that draw noise take a ``generator``."""

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean latents with the noise of a timestep."""


def make_scheduler(name: str, config: Mapping[str, Any]) -> Scheduler:
    """A fresh scheduler with the model's noise schedule; multistep schedulers keep a history, so one a batch.

    Args:
        name: one of `SCHEDULERS`.
        config: the model's scheduler configuration.

    Raises:
        UserError: there is no such scheduler, or it does not take the configuration.
    """
    if name not in SCHEDULERS:
        hint = did_you_mean(name, SCHEDULERS)
        raise UserError("sampler, field 'scheduler'", f"one of {', '.join(SCHEDULERS)}", f"'{name}'", hint)
    try:
        scheduler: Scheduler = SCHEDULERS[name].scheduler_class.from_config(dict(config))
    except Exception as error:  # a scheduler may fail in any way over values of an untrusted file
        raise UserError("the model's scheduler", f"a configuration for '{name}'", str(error)) from None
    return scheduler


def scheduler_fields() -> frozenset[str]:
    """What the schedulers' configurations may hold."""
    kinds = (entry.scheduler_class for entry in SCHEDULERS.values())
    return frozenset(name for kind in kinds for name in inspect.signature(kind.__init__).parameters)
