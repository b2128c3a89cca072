"""When a conditioner acts: its strength as a function of the steps. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema


def _checked(schedule: Any) -> Any:
    if isinstance(schedule, Mapping):
        if not schedule or not all(0.0 <= at <= 1.0 for at in schedule):
            raise ValueError("points {fraction of the steps: factor}, at least one, with fractions in [0, 1]")
        return dict(sorted(schedule.items()))
    if isinstance(schedule, tuple) and not 0.0 <= schedule[0] <= schedule[1] <= 1.0:
        raise ValueError("an interval (start, end) of fractions of the steps with 0 <= start <= end <= 1")
    return schedule


_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_SCHEMA: Any = {
    "anyOf": [
        {"type": "number"},
        {"type": "array", "items": _FRACTION, "minItems": 2, "maxItems": 2},
        {
            "type": "object",
            "propertyNames": {"pattern": r"^[0-9.]+$"},
            "additionalProperties": {"type": "number"},
        },
    ]
}

Schedule = Annotated[
    float | tuple[float, float] | Mapping[float, float], AfterValidator(_checked), WithJsonSchema(_SCHEMA)
]
"""A factor of the strength, which may be below 0: one number; 1 within an interval and 0 outside it; or points that are
joined by straight lines and go on level before the first and after the last, such as ``{0: 1, 0.5: 0}``."""


def factor_at(schedule: Schedule, index: int, total: int) -> float:
    """The factor at step ``index`` of ``total``, which begins when the share ``index / total`` of the steps is done.

    An interval holds the steps that begin within it: start <= index / total < end.
    """
    fraction = index / total
    if isinstance(schedule, tuple):
        start, end = schedule
        return 1.0 if start <= fraction < end else 0.0
    if not isinstance(schedule, Mapping):
        return schedule
    before = max((at for at in schedule if at <= fraction), default=min(schedule))
    after = min((at for at in schedule if at >= fraction), default=max(schedule))
    if before >= after:
        return schedule[after] if fraction <= before else schedule[before]
    share = (fraction - before) / (after - before)
    return (1.0 - share) * schedule[before] + share * schedule[after]
