"""Subjects: individuals whose look words cannot say, each named by a number."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from .tint import Color
from .vocabulary import ACCESSORIES, INDIVIDUALS, NOUNS, STYLES, label_of

TRAIN_SUBJECTS: Final = range(0, 4000)
HELD_OUT_SUBJECTS: Final = range(100_000, 100_400)
_WORN: Final = tuple((place, name) for place, names in ACCESSORIES.items() for name in names)


@dataclass(frozen=True)
class SubjectLook:
    """An individual: the noun that captions say of it, and what it looks like.

    `art` is a sprite "style/label"; `tint` the colour of its body (0 to 255; None: its own); `accessory` what it wears,
    (place, name) of `ACCESSORIES`, in the colour `accessory_tint` (None: its own).
    """

    noun: str
    art: str
    tint: Color | None
    accessory: tuple[str, str] | None
    accessory_tint: Color | None


def _color(rng: np.random.Generator) -> Color:
    hue, saturation, value = rng.random(), rng.uniform(0.25, 0.95), rng.uniform(0.4, 1.0)
    red, green, blue = colorsys.hsv_to_rgb(float(hue), float(saturation), float(value))
    return round(red * 255), round(green * 255), round(blue * 255)


@lru_cache(maxsize=8192)
def subject(id: int) -> SubjectLook:
    """The look of a subject, a function of its number (0 or more) alone.

    The first numbers of a split are its own artworks as they are, and, of training, every noun in the other style.
    Of the rest, four in ten show an artwork of the split and the others a noun in either style. Each has a colour
    drawn for it alone, on its body or on what it wears, so that no two look the same.
    """
    held_out = id >= HELD_OUT_SUBJECTS.start
    pool = INDIVIDUALS["held_out" if held_out else "train"]
    plain = [(word, f"fluent/{label}") for word, label in pool]
    if not held_out:
        plain += [(noun, f"noto/{label_of(noun)}") for noun in NOUNS]
    index = id - (HELD_OUT_SUBJECTS.start if held_out else 0)
    if index < len(plain):
        return SubjectLook(*plain[index], None, None, None)
    rng = np.random.default_rng([7919, id])
    noun, art = plain[rng.integers(len(pool))]
    if rng.random() < 0.6:
        noun = NOUNS[rng.integers(len(NOUNS))]
        art = f"{STYLES[rng.integers(len(STYLES))]}/{label_of(noun)}"
    # A noun of its own style in another colour is what colour words say: such an individual wears something.
    ordinary = art == f"fluent/{label_of(noun)}" if noun in NOUNS else False
    worn = _WORN[rng.integers(len(_WORN))] if ordinary or rng.random() < 0.65 else None
    tint = _color(rng) if worn is None or rng.random() < 0.6 else None
    worn_tint = _color(rng) if worn is not None and (tint is None or rng.random() < 0.5) else None
    return SubjectLook(noun, art, tint, worn, worn_tint)
