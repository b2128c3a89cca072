"""The words of the world, and which of their combinations training never sees."""

from __future__ import annotations

import hashlib
from typing import Final

NOUNS: Final = (
    "toy",
    "star",
    "ball",
    "heart",
    "moon",
    "house",
    "tree",
    "fish",
    "car",
    "boat",
    "mushroom",
    "umbrella",
)
COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (224, 52, 54),
    "orange": (247, 139, 36),
    "yellow": (253, 212, 58),
    "green": (52, 164, 82),
    "blue": (50, 106, 220),
    "purple": (138, 74, 188),
    "pink": (250, 146, 190),
    "brown": (126, 78, 46),
    "black": (44, 44, 52),
    "white": (250, 250, 247),
}
PATTERNS: Final = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS: Final = ("grass", "sand", "water", "snow", "sky", "night", "brick", "wood")


def _is_reserved(noun: str, color: str, background: str) -> bool:
    digest = hashlib.blake2b(f"{noun}/{color}/{background}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 10 == 0


HELD_OUT_TRIPLES: Final = tuple(
    (noun, color, background)
    for noun in NOUNS
    for color in COLORS
    for background in BACKGROUNDS
    if _is_reserved(noun, color, background)
)
"""(noun, color, background) triples, about 10 % of the 960, that no picture of the train split contains."""
