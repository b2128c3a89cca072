"""The grid of a run file's sweep: every combination of the values of some settings."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .complaints import Complaint, written
from .yamlfile import Keys

MAX_VARIANTS = 1000
FIXED = ("version", "seeds", "sweep")


@dataclass(frozen=True)
class Variant:
    """The settings at one point of the grid.

    Args:
        data: the run file's data with the swept values in their places.
        values: those values, by dotted path.
        origins: where in the file each swept value is written, by where it has been put.
    """

    data: dict[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[Keys, Keys] = field(default_factory=dict)

    def origin(self, keys: Keys) -> Keys:
        """Where in the file the value is written that is at ``keys`` in the data."""
        for target, written_at in self.origins.items():
            if keys[: len(target)] == target:
                return written_at + keys[len(target) :]
        return keys


def variants(sweep: Any, data: dict[str, Any]) -> tuple[list[Variant], list[Complaint]]:
    """Every point of the grid, the last axis running fastest, and what is wrong with the sweep.

    Args:
        sweep: what the file says, for example ``{"guidance.0.alpha": [0, 0.5, 1]}``.
        data: the rest of the file; it is copied.
    """
    axes, mistakes = _axes(sweep, data)
    if mistakes:
        return [Variant(copy.deepcopy(data))], mistakes
    count = math.prod(len(values) for values in axes.values())
    if count > MAX_VARIANTS:
        return [], [Complaint(("sweep",), f"at most {MAX_VARIANTS} combinations", f"{count}")]
    points = []
    for chosen in itertools.product(*(range(len(values)) for values in axes.values())):
        point = copy.deepcopy(data)
        values, origins = {}, {}
        for (path, choices), index in zip(axes.items(), chosen, strict=True):
            target = _keys(path)
            _holder(point, target)[target[-1]] = copy.deepcopy(choices[index])
            values[path] = choices[index]
            origins[target] = ("sweep", path, index)
        points.append(Variant(point, values, origins))
    return points, []


def _axes(sweep: Any, data: dict[str, Any]) -> tuple[dict[str, list[Any]], list[Complaint]]:
    example = "a mapping such as {sampler.steps: [20, 50]}"
    if not isinstance(sweep, dict):
        return {}, [Complaint(("sweep",), example, written(sweep))]
    mistakes = []
    for path, values in sweep.items():
        place: Keys = ("sweep", path)
        target = _keys(path)
        if path == "" or target[0] in FIXED:
            mistakes.append(Complaint(place, "a setting that can be swept", f"'{path}'", at_name=True))
        elif _holder(copy.deepcopy(data), target) is None:
            hint = "List items are counted from 0, as in guidance.0.scale."
            mistakes.append(
                Complaint(
                    place, "the path of a setting", f"'{path}', which leads nowhere", hint, at_name=True
                )
            )
        if not isinstance(values, list) or not values:
            mistakes.append(Complaint(place, "a list of values", written(values)))
    return {} if mistakes else sweep, mistakes


def _keys(path: str) -> Keys:
    return tuple(
        int(part) if part.isascii() and part.isdigit() and len(part) < 6 else part for part in path.split(".")
    )


def _holder(data: Any, target: Keys) -> Any:
    """The list or mapping that the last key of ``target`` belongs to, or None; an absent mapping is made."""
    for depth, key in enumerate(target):
        fits = (isinstance(data, dict) and isinstance(key, str)) or (
            isinstance(data, list) and key in range(len(data))
        )
        if not fits:
            return None
        if depth == len(target) - 1:
            return data
        data = data.setdefault(key, {}) if isinstance(data, dict) else data[key]
    return None
