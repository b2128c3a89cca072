"""The grid of a run file's sweep: every combination of the values of some settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..scene.field_error import FieldError
from ..scene.fields import Keys
from .settings_tree import Tree, split_path
from .validation import written

MAX_VARIANTS = 1000
FIXED = ("version", "seeds", "sweep", "scenes", "metrics")


@dataclass(frozen=True)
class Variant:
    """The settings at one point of the grid.

    Args:
        tree: the run file's data with the swept values in their places.
        values: those values, by dotted path.
    """

    tree: Tree
    values: Mapping[str, Any] = field(default_factory=dict)


def variants(sweep: Any, tree: Tree) -> tuple[list[Variant], list[FieldError]]:
    """Every point of the grid, the last axis running fastest, and what is wrong with the sweep.

    Args:
        sweep: what the file says, for example ``{"guidance.0.alpha": [0, 0.5, 1]}``.
        tree: the rest of the file; it is copied.
    """
    axes, errors = _axes(sweep, tree)
    if errors:
        return [Variant(tree.copy())], errors
    count = math.prod(len(values) for values in axes.values())
    if count > MAX_VARIANTS:
        return [], [
            FieldError(
                ("sweep",),
                f"at most {MAX_VARIANTS} combinations",
                f"{count}",
                "Take fewer values, or a run file for each part.",
            )
        ]
    points = []
    for chosen in itertools.product(*(range(len(values)) for values in axes.values())):
        point = tree.copy()
        values = {}
        for (path, choices), index in zip(axes.items(), chosen, strict=True):
            values[path] = choices[index]
            point.put(split_path(path), choices[index], tree.origin(("sweep", path, index)))
        points.append(Variant(point, values))
    return points, []


def _axes(sweep: Any, tree: Tree) -> tuple[dict[str, list[Any]], list[FieldError]]:
    example = "a mapping such as {sampler.steps: [20, 50]}"
    if not isinstance(sweep, dict):
        return {}, [
            FieldError(
                ("sweep",), example, written(sweep), "Each setting is named by its path and has a list."
            )
        ]
    errors = []
    for path, values in sweep.items():
        place: Keys = ("sweep", path)
        target = split_path(path)
        if path == "" or target[0] in FIXED:
            hint = "Every point of the grid is drawn with the same ones: write it outside the sweep."
            errors.append(FieldError(place, "a setting that can be swept", f"'{path}'", hint, at_name=True))
        elif not tree.has(target):
            hint = "List items are counted from 0, as in guidance.0.scale."
            nowhere = f"'{path}', which leads nowhere"
            errors.append(FieldError(place, "the path of a setting", nowhere, hint, at_name=True))
        if not isinstance(values, list) or not values:
            one = f"Write [{written(values)}] for one value." if isinstance(values, (int, float, str)) else ""
            hint = one or "Give at least one value in brackets, as in [5, 7.5]."
            errors.append(FieldError(place, "a list of values", written(values), hint))
    return {} if errors else sweep, errors
