"""Schedulers by the names that run files use: one table, which schema, docs and image texts are made of.

Free of torch until a scheduler is made.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import UserError, did_you_mean
from .registry import Registry, registry
from .scheduler_entry import SchedulerEntry

if TYPE_CHECKING:
    import torch
    from torch import Tensor


SCHEDULERS = {
    "ddim": SchedulerEntry("DDIMScheduler", "DDIM", "ddim"),
    "euler": SchedulerEntry("EulerDiscreteScheduler", "Euler", "euler"),
    "euler_ancestral": SchedulerEntry("EulerAncestralDiscreteScheduler", "Euler a"),
    "dpmpp_2m": SchedulerEntry("DPMSolverMultistepScheduler", "DPM++ 2M", "dpmpp_2m"),
    "pndm": SchedulerEntry("PNDMScheduler", "PLMS"),
    "unipc": SchedulerEntry("UniPCMultistepScheduler", "UniPC"),
    "ddpm": SchedulerEntry("DDPMScheduler", "DDPM"),
    "deis": SchedulerEntry("DEISMultistepScheduler", "DEIS"),
    "dpmpp_2s": SchedulerEntry("DPMSolverSinglestepScheduler", "DPM++ 2S"),
    "heun": SchedulerEntry("HeunDiscreteScheduler", "Heun"),
    "kdpm2": SchedulerEntry("KDPM2DiscreteScheduler", "DPM2"),
    "kdpm2_ancestral": SchedulerEntry("KDPM2AncestralDiscreteScheduler", "DPM2 a"),
    "lcm": SchedulerEntry("LCMScheduler", "LCM"),
    "lms": SchedulerEntry("LMSDiscreteScheduler", "LMS"),
    "sa_solver": SchedulerEntry("SASolverScheduler", "SA-Solver"),
    "tcd": SchedulerEntry("TCDScheduler", "TCD"),
}
"""Every scheduler of diffusers that Stable Diffusion's latents can be drawn with, one seed an image.

Not here: parallel and inverse forms of these, those of other processes (flow matching, EDM, variance exploding), and
`DPMSolverSDEScheduler`, whose noise does not come from an image's own generator.
"""

DEFAULT = "ddim"
_STANDARD = ("DDIMScheduler", "PNDMScheduler")
"""Classes that every folder of Stable Diffusion names, whatever it is drawn with; `DEFAULT` stands for them."""


@runtime_checkable
class Scheduler(Protocol):
    """What a generation uses of a scheduler; diffusers' have it.

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


def scheduler_names(installed: Registry | None = None) -> tuple[str, ...]:
    """Every name that there is; looks through all that is installed."""
    return (*SCHEDULERS, *(installed or registry()).schedulers())


def scheduler_entry(name: str) -> SchedulerEntry:
    """What is known of a scheduler, from the table or from a distribution that brings one of this name.

    Raises:
        UserError: there is none.
    """
    if name in SCHEDULERS:
        return SCHEDULERS[name]
    if (entry := registry().scheduler(name)) is not None:
        return entry
    names = scheduler_names()
    ours = [own for own in names if scheduler_entry(own).class_name == name]
    near = did_you_mean(re.sub(r"[\s-]+", "_", name.strip().lower()), names)
    hint = f"It is called '{ours[0]}'." if ours else near
    raise UserError("sampler, field 'scheduler'", f"one of {', '.join(names)}", f"'{name}'", hint)


def own_scheduler(config: Mapping[str, Any]) -> str:
    """The scheduler that a model is drawn with when none is named: ``ddim``, or the class that its file names.

    Args:
        config: of the model's scheduler, as its file says.

    Raises:
        UserError: the file names a class that draws no latents of Stable Diffusion.
    """
    named = str(config.get("_class_name", _STANDARD[0]))
    if named in _STANDARD:
        return DEFAULT
    ours = {entry.class_name: name for name, entry in SCHEDULERS.items()}
    if named in ours:
        return ours[named]
    for name, entry in registry().schedulers().items():
        if entry.class_name == named:
            return name
    known = ", ".join(ours)
    hint = "A flow-matching or EDM model needs a family of its own."
    raise UserError("the model's scheduler, field '_class_name'", f"one of {known}", repr(named)[:80], hint)


def make_scheduler(
    name: str, config: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> Scheduler:
    """A fresh scheduler with the model's noise schedule; multistep schedulers keep a history, so one a batch.

    What the configuration does not say is the class's own default, and as in diffusers' StableDiffusionPipeline old
    files are put right: ``steps_offset`` is 1 and ``clip_sample`` false. Options come last, so they say otherwise.

    Args:
        name: one of `scheduler_names`.
        config: the model's scheduler configuration.
        options: arguments of the class, and of its methods, which are left to the `Stepper`.

    Raises:
        UserError: there is no such scheduler or option, or the class does not take the configuration.
    """
    entry = scheduler_entry(name)
    chosen = entry.checked(name, options or {})["__init__"]
    try:
        kind = entry.scheduler_class
        # of a scheduler that was made, what it was given
        assumed = config.get("_use_default_values", ())
        settings = {
            key: value for key, value in config.items() if key not in {*assumed, "_use_default_values"}
        }
        takes = inspect.signature(kind.__init__).parameters
        if "steps_offset" in takes:
            settings["steps_offset"] = 1
        if "clip_sample" in takes and settings.get("clip_sample", True) is True:
            settings["clip_sample"] = False
        scheduler: Scheduler = kind.from_config(settings | chosen)
    except Exception as error:  # a scheduler may fail in any way over values of an untrusted file
        raise UserError("the model's scheduler", f"a configuration for '{name}'", str(error)) from None
    return scheduler


def check_steps(name: str, config: Mapping[str, Any], steps: int) -> None:
    """Refuse more steps than a model's noise schedule has for a scheduler. Free of torch.

    Raises:
        UserError: with the most there may be.
    """
    known = config.get("num_train_timesteps", 1000)
    if not isinstance(known, int):
        return  # loading refuses it
    # the last of the leading timesteps, which begin at 1, would lie past the table's end
    leading = config.get("timestep_spacing", "leading") == "leading"
    most = known - 1 if name in ("ddim", "ddpm", "pndm") and leading else known
    if steps > most:
        raise UserError(
            "field 'steps'", f"at most {most}", str(steps), f"'{name}' has no more on this model."
        )


def scheduler_fields() -> frozenset[str]:
    """What the schedulers' configurations may hold."""
    kinds = (entry.scheduler_class for entry in SCHEDULERS.values())
    return frozenset(name for kind in kinds for name in inspect.signature(kind.__init__).parameters)
