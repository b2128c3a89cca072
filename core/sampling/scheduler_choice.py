"""The scheduler of a generation: by name with options, or as an object that is in hand."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from ..api.schedulers import (
    DEFAULT,
    SCHEDULERS,
    Scheduler,
    check_steps,
    make_scheduler,
    own_scheduler,
    scheduler_entry,
)
from ..errors import UserError


@dataclass(frozen=True)
class SchedulerChoice:
    """What a batch's scheduler is made of.

    Args:
        name: of the scheduler; None for an object whose class has none.
        options: that make the same scheduler by its name.
        make: gives a fresh one.
        unwritten: what no run file can hold of it; empty for nothing.
    """

    name: str | None
    options: Mapping[str, Any]
    make: Callable[[], Scheduler]
    unwritten: str = ""
    _for_timesteps: Mapping[str, Any] = field(default_factory=dict)
    for_step: Mapping[str, Any] = field(default_factory=dict)

    def set_timesteps(self, scheduler: Scheduler, steps: int, device: torch.device | str) -> None:
        """Choose a scheduler's timesteps; what it remembered of earlier steps is gone."""
        scheduler.set_timesteps(steps, device=torch.device(device), **self._for_timesteps)

    def check(self, config: Mapping[str, Any], steps: int) -> None:
        """Refuse what the scheduler would fail over, by its first step on one number.

        Raises:
            UserError: so many steps, or an option's value, are not for this scheduler.
        """
        if self.name is not None:
            check_steps(self.name, config, steps)
        name = self.name or type(self.make()).__name__
        try:
            scheduler = self.make()
            self.set_timesteps(scheduler, steps, "cpu")
            one, first = torch.ones(1, 1, 1, 1), scheduler.timesteps[0]
            scheduler.scale_model_input(one, first)
            draws = "generator" in inspect.signature(scheduler.step).parameters
            noise = {"generator": [torch.Generator()]} if draws else {}
            scheduler.step(one, first, one, return_dict=False, **noise, **self.for_step)
        except UserError:
            raise
        except Exception as error:  # of any kind: diffusers checks some options when they are used
            expected = f"{steps} steps and options that '{name}' takes"
            raise UserError("sampler, field 'scheduler'", expected, str(error)) from error


def choose(
    scheduler: str | Scheduler | None, options: Mapping[str, Any] | None, config: Mapping[str, Any]
) -> SchedulerChoice:
    """The scheduler that is meant.

    Args:
        scheduler: a name; an object in diffusers' form, which is copied for every batch; None for the model's own.
        options: of a scheduler that is named.
        config: the model's scheduler configuration.

    Raises:
        UserError: there is no such scheduler or option.
    """
    if scheduler is None or isinstance(scheduler, str):
        name, chosen = scheduler or own_scheduler(config), dict(options or {})
        make_scheduler(name, config, chosen)
        by_method = scheduler_entry(name).checked(name, chosen)
        return SchedulerChoice(
            name,
            chosen,
            lambda: make_scheduler(name, config, chosen),
            "",
            by_method["set_timesteps"],
            _changed(scheduler_entry(name).options(), by_method["step"]),
        )
    if not isinstance(scheduler, Scheduler):
        raise UserError(
            "field 'scheduler'", "a name, or a scheduler in diffusers' form", repr(scheduler)[:80]
        )
    if options:
        raise UserError(
            "field 'scheduler_options'", "none beside a scheduler that is in hand", repr(options)[:80]
        )
    instance = scheduler
    described, differing = _described(instance, config)
    unwritten = "" if described else f"the scheduler {type(instance).__name__}, which was given as an object"
    return SchedulerChoice(described, differing, lambda: copy.deepcopy(instance), unwritten)


class _Inverse(DDIMInverseScheduler):  # type: ignore[misc]
    """diffusers' inverse of DDIM, with DDIM's levels of noise, which strategies may ask for."""

    add_noise = DDIMScheduler.add_noise


def inverse(config: Mapping[str, Any]) -> SchedulerChoice:
    """The scheduler that takes ``ddim``'s steps the other way, from an image to noise.

    Args:
        config: the model's scheduler configuration.
    """

    def make() -> Any:
        usual: Any = make_scheduler(DEFAULT, config)
        takes = inspect.signature(DDIMInverseScheduler.__init__).parameters
        settings = {name: value for name, value in usual.config.items() if name in takes}
        return _Inverse.from_config(settings)

    return SchedulerChoice(DEFAULT, {}, make)


def _changed(known: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that are as they would be anyway, which leave the fused step in its place."""
    return {name: value for name, value in options.items() if value != known[name].default}


def _described(scheduler: Any, config: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The name and the options that make an equal scheduler; no name where none do."""
    for name, entry in SCHEDULERS.items():
        if entry.scheduler_class is type(scheduler):
            usual: Any = make_scheduler(name, config)
            names = inspect.signature(entry.scheduler_class).parameters.keys() & entry.options().keys()
            differing = {
                one: scheduler.config[one]
                for one in sorted(names)
                if scheduler.config.get(one) != usual.config.get(one)
            }
            plain = (bool, int, float, str, type(None), list)
            if all(isinstance(value, plain) for value in differing.values()):
                return name, differing
    return None, {}
