"""One object of a picture, and how it becomes pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .shapes import Ink
from .silhouettes import PIXELS_PER_UNIT, REACH, badged, extent, patterned
from .subjects import Color, subject
from .vocabulary import COLORS

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in fractions of the image."""

GRID: Final = 64
"""Boxes lie on multiples of 1/GRID, so masks at 64 and 128 pixels have exactly these boxes."""
SUPERSAMPLING: Final = 4

_SECOND: Final[dict[str, Color]] = {
    "white": (158, 168, 190),
    "black": (140, 142, 154),
    "yellow": (255, 250, 226),
    "brown": (214, 178, 140),
}
_OUTLINE: Final[dict[str, Color]] = {
    "white": (112, 120, 140),
    "black": (14, 14, 20),
    "yellow": (158, 106, 14),
}


@dataclass(frozen=True)
class Thing:
    """An object. Its silhouette, flipped and turned by `angle` degrees clockwise, fills `box` tightly.

    A subject has neither color nor pattern. `shade`, -1 to 1, makes its colour a little darker or lighter.
    """

    noun: str
    color: str | None
    pattern: str | None
    box: Box
    subject: int | None = None
    angle: float = 0.0
    flip: bool = False
    shade: float = 0.0


def _mix(one: Color, other: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _palette(body: Color, second: Color, outline: Color, emblem: Color, light: float) -> NDArray[np.uint32]:
    white, black = (255, 255, 255), (0, 0, 0)
    inks: dict[Ink, Color] = {
        Ink.OUTLINE: outline,
        Ink.BODY: body,
        Ink.SECOND: second,
        Ink.SHADE: _mix(body, outline, 0.22),
        Ink.LIGHT: _mix(body, white, 0.62),
        Ink.CREAM: (250, 238, 212),
        Ink.DARK: (42, 38, 44),
        Ink.WHITE: white,
        Ink.TRUNK: (134, 96, 64),
        Ink.GLASS: (206, 232, 240),
        Ink.EMBLEM: emblem,
    }
    table = np.zeros((len(Ink), 4), dtype=np.uint8)
    for ink, color in inks.items():
        if ink in (Ink.BODY, Ink.SHADE, Ink.SECOND):
            color = _mix(color, white if light > 0 else black, 0.06 * abs(light))
        table[ink] = (*color, 255)
    return table.view(np.uint32)[:, 0]


@lru_cache(maxsize=64)
def _named_colors(color: str) -> tuple[Color, Color, Color]:
    body = COLORS[color]
    return (
        body,
        _SECOND.get(color, _mix(body, (255, 250, 240), 0.72)),
        _OUTLINE.get(color, _mix(body, (20, 10, 30), 0.58)),
    )


def paint(thing: Thing, size: int) -> tuple[int, int, NDArray[np.uint8]]:
    """The object in an image of size x size: its first column, its first row, and its pixels from there on as
    premultiplied RGBA, [height, width, 4]."""
    left, top, right, bottom = (side * size for side in thing.box)
    x0, y0 = max(int(left + 1e-6), 0), max(int(top + 1e-6), 0)
    x1, y1 = min(int(np.ceil(right - 1e-6)), size), min(int(np.ceil(bottom - 1e-6)), size)
    if thing.subject is None:
        assert thing.color is not None, thing
        assert thing.pattern is not None, thing
        inks = patterned(thing.noun, thing.pattern)
        body, second, outline = _named_colors(thing.color)
        palette = _palette(body, second, outline, body, thing.shade)
    else:
        look = subject(thing.subject)
        inks = badged(look.noun, look.trim, look.emblem)
        palette = _palette(look.body, look.second, look.outline, look.emblem_color, thing.shade)

    tight = extent(thing.noun, thing.angle, thing.flip)
    scale_x, scale_y = (tight[2] - tight[0]) / (right - left), (tight[3] - tight[1]) / (bottom - top)
    # Fine pixel (i, j) shows the turned point (step_x * i + start_x, step_y * j + start_y), turned back.
    step_x, step_y = scale_x / SUPERSAMPLING, scale_y / SUPERSAMPLING
    start_x, start_y = tight[0] + (x0 - left) * scale_x, tight[1] + (y0 - top) * scale_y
    c, s = float(np.cos(np.deg2rad(thing.angle))), float(np.sin(np.deg2rad(thing.angle)))
    mirror = -1.0 if thing.flip else 1.0
    k = PIXELS_PER_UNIT
    coefficients = (
        mirror * c * step_x * k,
        mirror * s * step_y * k,
        (mirror * (c * start_x + s * start_y) + REACH) * k,
        -s * step_x * k,
        c * step_y * k,
        (-s * start_x + c * start_y + REACH) * k,
    )
    fine = ((x1 - x0) * SUPERSAMPLING, (y1 - y0) * SUPERSAMPLING)
    sampled = Image.fromarray(inks).transform(
        fine, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST
    )
    colored = palette[np.asarray(sampled)]
    sprite = Image.frombuffer("RGBa", fine, colored.tobytes(), "raw", "RGBa", 0, 1).reduce(SUPERSAMPLING)
    pixels = np.frombuffer(sprite.tobytes(), dtype=np.uint8)
    return x0, y0, pixels.reshape(y1 - y0, x1 - x0, 4)
