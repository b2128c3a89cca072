"""The grammar of captions: which phrases name an object, a relation and a background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .things import Box, Thing

Wanted = tuple[str, str | None, Box | None, int | None]
"""An object asked for: (noun, color, box, subject).

A color of None is the artwork's own, a box of None is chosen; a subject has no color.
"""

BACKGROUND_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "grass": ("on grass", "on the grass", "in the grass"),
    "sand": ("on sand", "on the sand"),
    "water": ("on water", "on the water"),
    "snow": ("in snow", "on snow", "in the snow"),
    "sky": ("in the sky", "up in the sky"),
    "night": ("at night", "in the night"),
    "sunset": ("at sunset", "in front of a sunset"),
    "brick": ("in front of a brick wall", "on a brick wall"),
    "wood": ("on wood", "on a wooden floor"),
    "stone": ("on stone", "on a stone floor"),
    "tiles": ("on tiles", "on a tiled floor"),
    "curtain": ("in front of a curtain", "before a curtain"),
}
"""What a caption may say of each background; the first phrase is the plainest."""
LEAD_INS: Final = ("", "a picture of ", "there is ", "a drawing of ", "here is ")
RELATIONS: Final = ("left of", "right of", "above", "below", "next to")


def phrase(noun: str, color: str | None = None) -> str:
    """The object with its article: "an orange umbrella", "a unicorn", "some food"."""
    text = noun if color is None else f"{color} {noun}"
    if noun == "food":
        return f"some {text}"
    return f"{'an' if text[0] in 'aeiou' and not text.startswith('uni') else 'a'} {text}"


def _listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _phrase_of(thing: Thing | Sequence[Any]) -> str:
    return phrase(thing.noun, thing.color) if isinstance(thing, Thing) else phrase(*thing[:2])


def describe(background: str | None, things: Sequence[Thing | Sequence[Any]]) -> str:
    """The plainest caption, in the order given: "a red star and a lion on grass".

    Each thing is a `Thing` or a tuple (noun, color, ...). A background of None is left out.
    """
    text = _listed([_phrase_of(thing) for thing in things])
    return text if background is None else f"{text} {BACKGROUND_PHRASES[background][0]}"


def relations(one: Box, other: Box) -> tuple[str, ...]:
    """The words of `RELATIONS` that hold clearly: the first box is "left of", "next to", ... the second.

    A side needs centres 0.15 of the image apart on its axis and 1.4 times farther than on the other axis;
    "next to" needs boxes side by side, sharing a third of the lower height, with a gap below 0.16.
    """
    dx = (other[0] + other[2] - one[0] - one[2]) / 2
    dy = (other[1] + other[3] - one[1] - one[3]) / 2
    found = []
    if abs(dx) >= 0.15 and abs(dx) >= 1.4 * abs(dy):
        found.append("left of" if dx > 0 else "right of")
    if abs(dy) >= 0.15 and abs(dy) >= 1.4 * abs(dx):
        found.append("above" if dy > 0 else "below")
    gap = max(one[0], other[0]) - min(one[2], other[2])
    shared = min(one[3], other[3]) - max(one[1], other[1])
    if -0.05 <= gap < 0.16 and shared >= min(one[3] - one[1], other[3] - other[1]) / 3:
        found.append("next to")
    return tuple(found)


def caption(background: str, things: Sequence[Thing], rng: np.random.Generator) -> str:
    """A caption drawn from the grammar: every object once, adjectives before it, only relations that hold."""
    order = list(things)
    if rng.random() < 0.1:
        order = [order[i] for i in rng.permutation(len(order))]
    phrases = [_phrase_of(thing) for thing in order]
    text = _listed(phrases)
    if len(order) > 1 and rng.random() < 0.5:
        pairs = [
            (i, j, relation)
            for i in range(len(order))
            for j in range(len(order))
            if i != j
            for relation in relations(order[i].box, order[j].box)
        ]
        if pairs:
            i, j, relation = pairs[int(rng.integers(len(pairs)))]
            rest = "".join(f"{words}, " for k, words in enumerate(phrases) if k not in (i, j))
            # The pair comes last, after a comma, so that no other object could be read into the relation.
            text = f"{rest}{'and ' if rest else ''}{phrases[i]} {relation} {phrases[j]}"
    lead = LEAD_INS[int(rng.integers(1, len(LEAD_INS)))] if rng.random() < 0.3 else ""
    if rng.random() < 0.1:
        return lead + text
    options = BACKGROUND_PHRASES[background]
    place = options[0] if rng.random() < 0.5 else options[int(rng.integers(len(options)))]
    if rng.random() < 0.1:
        return f"{place}, {lead}{text}"
    return f"{lead}{text} {place}"
