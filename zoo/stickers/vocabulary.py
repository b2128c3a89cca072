"""The words of the world, and which of their combinations training never sees."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import yaml

_ARTWORK: Final[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "artwork.yaml").read_text(encoding="utf-8")
)
_NOUNS: Final[dict[str, dict[str, Any]]] = {
    noun: facts for group in _ARTWORK["nouns"].values() for noun, facts in group.items()
}

STYLES: Final = ("fluent", "noto")
"""The style of every noun, and another of the same things."""
NOUNS: Final = tuple(_NOUNS)
CATEGORIES: Final = ("animal", "food", "toy", "plant", "vehicle")
"""Words for individuals that no noun names."""
COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (224, 38, 48),
    "orange": (250, 132, 28),
    "yellow": (250, 206, 44),
    "green": (48, 168, 76),
    "blue": (44, 104, 226),
    "purple": (134, 66, 196),
    "pink": (250, 138, 190),
    "brown": (130, 80, 46),
    "black": (46, 46, 54),
    "white": (244, 244, 242),
}
TINTED: Final = frozenset(noun for noun, facts in _NOUNS.items() if facts.get("tint"))
"""The nouns that colour words go with."""
BACKGROUNDS: Final = (
    "grass",
    "sand",
    "water",
    "snow",
    "sky",
    "night",
    "sunset",
    "brick",
    "wood",
    "stone",
    "tiles",
    "curtain",
)
ACCESSORIES: Final[dict[str, dict[str, str]]] = _ARTWORK["accessories"]
"""Labels of what an individual wears, by name: on its "top", or in "front" of it."""
INDIVIDUALS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    split: tuple((word, label) for word, labels in words.items() for label in labels)
    for split, words in _ARTWORK["individuals"].items()
}
"""Artworks that no noun shows, (word, label), of the splits "train" and "held_out"."""


def label_of(noun: str) -> str:
    """The label of the artwork that shows a noun."""
    label: str = _NOUNS[noun]["art"]
    return label


def artworks() -> list[str]:
    """Every sprite of the atlas, "style/label"."""
    named = [label_of(noun) for noun in NOUNS]
    other = [label for split in INDIVIDUALS.values() for _, label in split]
    worn = [label for place in ACCESSORIES.values() for label in place.values()]
    names = [f"fluent/{label}" for label in (*named, *other, *worn)] + [f"noto/{label}" for label in named]
    return list(dict.fromkeys(names))


def _is_reserved(noun: str, color: str | None, background: str) -> bool:
    digest = hashlib.blake2b(f"{noun}/{color}/{background}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 10 == 0


def colors_of(noun: str) -> tuple[str | None, ...]:
    """The colours that a noun comes in; None is that of its artwork."""
    return (None, *COLORS) if noun in TINTED else (None,)


HELD_OUT_TRIPLES: Final = tuple(
    (noun, color, background)
    for noun in NOUNS
    for color in colors_of(noun)
    for background in BACKGROUNDS
    if _is_reserved(noun, color, background)
)
"""(noun, color, background) triples, about one in ten, that no picture of the train split contains."""
