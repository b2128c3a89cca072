"""The whole world on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import Image

from ...core.report.sheet import GAP, Row, sheet
from .scenes import Picture, compose, portrait, sample
from .subjects import TRAIN_SUBJECTS
from .vocabulary import BACKGROUNDS, COLORS, NOUNS, PATTERNS

SIDE: Final = 80
"""Pixels of a small image; the longest noun fits below it."""


def world_sheet() -> Image.Image:
    """Nouns by colours, patterns, backgrounds and subjects in small images, scenes with captions in larger ones."""
    scene_side = 2 * (SIDE + GAP) - GAP
    return sheet(
        [
            *_rows("12 nouns in 10 colours", _nouns(), 12, NOUNS),
            *_rows("patterns, and 8 backgrounds", _patterns(), 12, [*PATTERNS, *BACKGROUNDS]),
            *(_scenes(row, scene_side) for row in range(2)),
            *_rows("one subject in twelve poses, and others", _subjects(), 12),
        ],
        cell=SIDE,
    )


def _rows(label: str, pictures: Sequence[Picture], columns: int, captions: Sequence[str] = ()) -> list[Row]:
    """Rows below one label, the last of them captioned."""
    images = [Image.fromarray(picture.image(SIDE)) for picture in pictures]
    last = len(images) - columns
    return [
        Row("" if start else label, images[start : start + columns], captions if start == last else ())
        for start in range(0, len(images), columns)
    ]


def _nouns() -> list[Picture]:
    return [
        compose(BACKGROUNDS[(row * 3 + column) % 8], [(noun, color, "plain", None, None)], 12 * row + column)
        for row, color in enumerate(COLORS)
        for column, noun in enumerate(NOUNS)
    ]


def _patterns() -> list[Picture]:
    centre = (0.16, 0.16, 0.84, 0.84)
    things = zip(
        ("umbrella", "ball", "mushroom", "fish"), ("red", "blue", "purple", "orange"), PATTERNS, strict=True
    )
    patterned = [
        compose("snow", [(noun, color, pattern, centre, None)], index)
        for index, (noun, color, pattern) in enumerate(things)
    ]
    return [*patterned, *(compose(background, [], index) for index, background in enumerate(BACKGROUNDS))]


def _scenes(row: int, side: int) -> Row:
    scenes = [sample(200 + row * 6 + i, count=(2, 3, 1, 4, 2, 3)[i], subjects=0.1) for i in range(6)]
    images = [Image.fromarray(scene.image(side)) for scene in scenes]
    label = "" if row else "scenes and their captions"
    return Row(label, images, [scene.caption(row) for scene in scenes])


def _subjects() -> list[Picture]:
    others = [portrait(subject, 0) for subject in TRAIN_SUBJECTS[20:44]]
    return [*(portrait(75, seed) for seed in range(12)), *others]
