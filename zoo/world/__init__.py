"""The procedural world that the tiny model learns: every object, colour, box, mask and identity is known."""

from __future__ import annotations

from .captions import BACKGROUND_PHRASES, RELATIONS, Wanted, describe, relations
from .scenes import Picture, compose, portrait, sample
from .subjects import HELD_OUT_SUBJECTS, TRAIN_SUBJECTS, SubjectLook, subject
from .things import Box, Thing
from .vocabulary import BACKGROUNDS, COLORS, HELD_OUT_TRIPLES, NOUNS, PATTERNS

__all__ = [
    "BACKGROUNDS",
    "BACKGROUND_PHRASES",
    "COLORS",
    "HELD_OUT_SUBJECTS",
    "HELD_OUT_TRIPLES",
    "NOUNS",
    "PATTERNS",
    "RELATIONS",
    "TRAIN_SUBJECTS",
    "Box",
    "Picture",
    "SubjectLook",
    "Thing",
    "Wanted",
    "compose",
    "describe",
    "portrait",
    "relations",
    "sample",
    "subject",
]
