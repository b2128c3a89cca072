"""Silhouettes as cached maps of inks at high resolution, from which every object is sampled."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .patterns import Mask, Plane, dilate, emblem_mask, pattern_mask, trim_mask
from .shapes import Ink, Part, shape

RESOLUTION: Final = 320
REACH: Final = 1.25
"""A map covers object coordinates -REACH to REACH on both axes."""
PIXELS_PER_UNIT: Final = RESOLUTION / (2 * REACH)

InkMap = NDArray[np.uint8]
"""Inks, [RESOLUTION, RESOLUTION]."""


@lru_cache(maxsize=1)
def _grid() -> tuple[Plane, Plane]:
    axis = (np.arange(RESOLUTION) + 0.5) / PIXELS_PER_UNIT - REACH
    x, y = np.meshgrid(axis, axis)
    return x, y


def _fill(part: Part) -> Mask:
    canvas = Image.new("L", (RESOLUTION, RESOLUTION), 0)
    draw = ImageDraw.Draw(canvas)
    for value, polygons in ((1, part.polygons), (0, part.cut)):
        for points in polygons:
            draw.polygon([(float(x), float(y)) for x, y in (points + REACH) * PIXELS_PER_UNIT], fill=value)
    return np.asarray(canvas) > 0


@lru_cache(maxsize=64)
def _base(noun: str, slots: bool) -> InkMap:
    inks = np.zeros((RESOLUTION, RESOLUTION), dtype=np.uint8)
    for part in shape(noun).parts:
        if part.slot and not slots:
            continue
        mask = _fill(part)
        if part.outline:
            inks[dilate(mask, part.outline * PIXELS_PER_UNIT)] = Ink.OUTLINE
        inks[mask] = part.ink
    return inks


@lru_cache(maxsize=64)
def patterned(noun: str, pattern: str) -> InkMap:
    """The map of a noun with a pattern on its body."""
    inks = _base(noun, True).copy()
    inks[(inks == Ink.BODY) & pattern_mask(pattern, *_grid())] = Ink.SECOND
    return inks


@lru_cache(maxsize=128)
def _trimmed(noun: str, trim: str) -> InkMap:
    inks = _base(noun, False).copy()
    body = inks == Ink.BODY
    inks[body & trim_mask(trim, *_grid(), body, shape(noun).emblem)] = Ink.SECOND
    return inks


@lru_cache(maxsize=256)
def _stamp(noun: str, emblem: str) -> tuple[slice, slice, Mask, Mask]:
    ex, ey, radius = shape(noun).emblem
    x, y = _grid()
    mask = emblem_mask(emblem, (x - ex) / radius, (y - ey) / radius)
    rim = dilate(mask, 0.055 * PIXELS_PER_UNIT) & ~mask
    touched = np.nonzero(mask | rim)
    rows = slice(int(touched[0].min()), int(touched[0].max()) + 1)
    columns = slice(int(touched[1].min()), int(touched[1].max()) + 1)
    return rows, columns, mask[rows, columns].copy(), rim[rows, columns].copy()


def badged(noun: str, trim: str, emblem: str) -> InkMap:
    """The map of a subject: a noun with a trim and an emblem."""
    inks = _trimmed(noun, trim).copy()
    rows, columns, mask, rim = _stamp(noun, emblem)
    patch = inks[rows, columns]
    patch[mask & (patch > 0)] = Ink.EMBLEM
    patch[rim & (patch > 0)] = Ink.OUTLINE
    return inks


@lru_cache(maxsize=16)
def _extremes(noun: str) -> Plane:
    rows, columns = np.nonzero(_base(noun, True))
    points = []
    for row in np.unique(rows):
        inside = columns[rows == row]
        for edge in (inside.min(), inside.max() + 1):
            points += [(edge, row), (edge, row + 1)]
    return np.array(points, dtype=np.float64) / PIXELS_PER_UNIT - REACH


def extent(noun: str, angle: float, flip: bool) -> tuple[float, float, float, float]:
    """The tight (left, top, right, bottom) of a silhouette flipped, then turned; degrees, object units."""
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    points = _extremes(noun)
    x = -points[:, 0] if flip else points[:, 0]
    turned_x, turned_y = c * x - s * points[:, 1], s * x + c * points[:, 1]
    return float(turned_x.min()), float(turned_y.min()), float(turned_x.max()), float(turned_y.max())
