"""One object of a picture, and how it becomes pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .sprites import hull, silhouette, sprite

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in fractions of the image."""

GRID: Final = 64
"""Boxes lie on multiples of 1/GRID, so masks at 64, 128, ... pixels have exactly these boxes."""


@dataclass(frozen=True)
class Thing:
    """An object. Its silhouette, flipped and turned by `angle` degrees clockwise, fills `box` tightly.

    A color of None is the artwork's own; a subject has no color. `shade`, -1 to 1, makes it a little darker or lighter.
    """

    noun: str
    color: str | None
    box: Box
    subject: int | None = None
    angle: float = 0.0
    flip: bool = False
    shade: float = 0.0


def extent(noun: str, individual: int | None, angle: float, flip: bool) -> tuple[float, float]:
    """Width and height of a silhouette flipped, then turned; degrees, pixels of its sprite."""
    points = hull(noun, individual)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    x = -points[:, 0] if flip else points[:, 0]
    turned_x, turned_y = c * x - s * points[:, 1], s * x + c * points[:, 1]
    return float(np.ptp(turned_x)), float(np.ptp(turned_y))


def paint(thing: Thing, size: int) -> tuple[int, int, NDArray[np.uint8]]:
    """The object in an image of size x size: its first column, its first row, and its pixels from there on as
    premultiplied RGBA, [height, width, 4]."""
    x0, y0, x1, y1 = (round(side * size) for side in thing.box)
    image = sprite(thing.noun, thing.color, thing.subject)
    if thing.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if thing.angle:
        image = image.rotate(-thing.angle, Image.Resampling.BILINEAR, expand=True)
    fitted = image.resize((max(x1 - x0, 1), max(y1 - y0, 1)), Image.Resampling.HAMMING, box=silhouette(image))
    pixels = np.array(fitted)
    if thing.shade:
        light = np.float32(1 + 0.08 * thing.shade)
        pixels[..., :3] = np.minimum(pixels[..., :3] * light + 0.5, pixels[..., 3:])
    return x0, y0, pixels
