"""A world of real artwork on drawn backgrounds: every object, colour, box, mask and identity is known.

It replaces the procedural shapes of ``weft.zoo.world`` when a model trained on it ships: two worlds would ask for two
vocabularies, two judges and two sets of figures, and shapes teach nothing that artwork does not.
"""

from __future__ import annotations

from .captions import BACKGROUND_PHRASES, RELATIONS, Wanted, describe, relations
from .scenes import Picture, compose, portrait, sample
from .subjects import HELD_OUT_SUBJECTS, TRAIN_SUBJECTS, SubjectLook, subject
from .things import Box, Thing
from .vocabulary import BACKGROUNDS, CATEGORIES, COLORS, HELD_OUT_TRIPLES, NOUNS, TINTED

__all__ = [
    "BACKGROUNDS",
    "BACKGROUND_PHRASES",
    "CATEGORIES",
    "COLORS",
    "HELD_OUT_SUBJECTS",
    "HELD_OUT_TRIPLES",
    "NOUNS",
    "RELATIONS",
    "TINTED",
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
