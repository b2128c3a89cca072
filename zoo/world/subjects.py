"""Subjects: individuals whose look words cannot say, each named by a number."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from .patterns import EMBLEMS, TRIMS
from .vocabulary import NOUNS

Color = tuple[int, int, int]

TRAIN_SUBJECTS: Final = range(0, 4000)
HELD_OUT_SUBJECTS: Final = range(100_000, 100_200)


@dataclass(frozen=True)
class SubjectLook:
    """An individual: noun, colours (0 to 255), the shape of its emblem, and where the second colour lies."""

    noun: str
    body: Color
    second: Color
    outline: Color
    emblem: str
    emblem_color: Color
    trim: str


def _color(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _distance(one: Color, other: Color) -> float:
    weights = (0.55, 0.75, 0.4)
    return math.sqrt(sum(w * (a - b) ** 2 for w, a, b in zip(weights, one, other, strict=True)))


@lru_cache(maxsize=8192)
def subject(id: int) -> SubjectLook:
    """The look of a subject, a function of its number (0 or more) alone. Three in ten are toys."""
    rng = np.random.default_rng([7919, id])
    noun = "toy" if rng.random() < 0.25 else NOUNS[rng.integers(len(NOUNS))]
    hue = float(rng.random())
    body = _color(hue, float(rng.uniform(0.35, 0.85)), float(rng.uniform(0.62, 0.96)))

    def far_from(others: tuple[Color, ...]) -> Color:
        options = [
            _color(
                float(rng.random()),
                float(rng.choice([0.06, 0.45, 0.65, 0.85])),
                float(rng.choice([0.32, 0.72, 0.97])),
            )
            for _ in range(6)
        ]
        return max(options, key=lambda option: min(_distance(option, other) for other in others))

    second = far_from((body,))
    return SubjectLook(
        noun=noun,
        body=body,
        second=second,
        outline=_color(float(rng.random()), float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.16, 0.42))),
        emblem=EMBLEMS[rng.integers(len(EMBLEMS))],
        emblem_color=far_from((body, second)),
        trim=TRIMS[rng.integers(len(TRIMS))],
    )
