"""What is known of one scheduler: its class, its names elsewhere, and the options that it takes.

Free of torch until the class is asked for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError, did_you_mean

_METHODS = ("__init__", "set_timesteps", "step")
# what the engine hands over itself, or what replaces the steps and the noise that it hands over
_NOT_OPTIONS = {
    *("self", "model_output", "timestep", "sample", "generator", "variance_noise", "return_dict"),
    *("num_inference_steps", "timesteps", "sigmas", "mu", "strength", "device", "tau_func"),
}


@dataclass(frozen=True)
class SchedulerEntry:
    """What is known of a scheduler.

    Args:
        location: a class of diffusers, or ``module:Class`` for that of another distribution, which has the methods of
            diffusers' schedulers; see `weft.core.api.schedulers.Scheduler`.
        a1111: what AUTOMATIC1111's web interface calls it.
        update: the kind of `weft.kernels.combine.Update` that its step is when it draws no noise; None where
            its own `step` is called.
    """

    location: str
    a1111: str
    update: str | None = None

    @property
    def class_name(self) -> str:
        """Without its module."""
        return self.location.rpartition(":")[2]

    @property
    def scheduler_class(self) -> Any:
        """The class itself.

        Raises:
            ImportError, AttributeError: there is none there.
        """
        module, _, name = self.location.rpartition(":")
        return getattr(importlib.import_module(module or "diffusers"), name)

    def options(self) -> dict[str, inspect.Parameter]:
        """What may be chosen, by name: arguments of the class and of its methods."""
        return {name: parameter for one in _METHODS for name, parameter in self._of(one).items()}

    def checked(self, name: str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Options by the method that takes them.

        Args:
            name: of the scheduler, for the error.
            options: by name; of the type of the argument's default.

        Raises:
            UserError: the scheduler has no such option, or it is of another type.
        """
        known = self.options() if options else {}
        for option, value in options.items():
            place = f"sampler, field 'scheduler_options', '{option}'"
            if option not in known:
                hint = did_you_mean(option, known)
                raise UserError(place, f"an option of '{name}' ({', '.join(sorted(known))})", "none", hint)
            default = known[option].default
            if not _fits(value, default):
                expected = {bool: "true or false", str: "text"}.get(type(default), "a number")
                raise UserError(place, expected, repr(value)[:80])
        return {
            method: {option: value for option, value in options.items() if option in self._of(method)}
            for method in _METHODS
        }

    def _of(self, method: str) -> dict[str, inspect.Parameter]:
        parameters = inspect.signature(getattr(self.scheduler_class, method)).parameters
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return {
            name: one
            for name, one in parameters.items()
            if name not in _NOT_OPTIONS
            and one.kind not in kinds
            # an argument of the class that a method takes too is the class's
            and (method == "__init__" or name not in inspect.signature(self.scheduler_class).parameters)
        }


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of a default's type; a whole number is a number, and what has no default takes anything."""
    if default is None or default is inspect.Parameter.empty:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, (int, float)):
        return isinstance(value, (int, float))
    return isinstance(value, type(default)) or (
        isinstance(default, (list, tuple)) and isinstance(value, (list, tuple))
    )
