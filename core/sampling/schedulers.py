"""diffusers' schedulers by the names that run files use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers

from ..errors import UserError, did_you_mean

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def make_scheduler(name: str, config: Mapping[str, Any]) -> Any:
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
        return getattr(diffusers, SCHEDULERS[name]).from_config(dict(config))
    except Exception as error:  # a scheduler may stumble over a stranger's values in any way
        raise UserError("the model's scheduler", f"a configuration for '{name}'", str(error)) from None


def scheduler_fields() -> frozenset[str]:
    """What the schedulers' configurations may hold."""
    kinds = (getattr(diffusers, name) for name in SCHEDULERS.values())
    return frozenset(name for kind in kinds for name in inspect.signature(kind.__init__).parameters)


def step_options(scheduler: Any, generators: list[Any]) -> dict[str, Any]:
    """The generators, for the schedulers whose step draws noise."""
    takes = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": generators} if takes else {}
