"""The sprite of a thing: its artwork, tinted, with what it wears, as premultiplied RGBA."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .atlas import artwork
from .subjects import SubjectLook, subject
from .tint import Color, tinted
from .vocabulary import ACCESSORIES, COLORS, label_of

SOLID = 24
"""From this alpha (0 to 255) on, a pixel belongs to the silhouette."""


def silhouette(image: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is visible, in pixels."""
    box = image.getchannel(image.mode[-1]).point(lambda value: 255 if value >= SOLID else 0).getbbox()
    assert box is not None
    return box


def _painted(name: str, color: Color | None) -> Image.Image:
    return artwork(name) if color is None else tinted(artwork(name), color)


def _top(image: Image.Image) -> tuple[int, int, int]:
    """The top of the silhouette: the middle and the width of its highest tenth, and its first row."""
    solid = np.asarray(image)[..., 3] >= 128
    rows = np.flatnonzero(solid.any(1))
    first = int(rows[0])
    columns = np.flatnonzero(solid[first : first + max(image.height // 8, 4)].any(0))
    return int(columns[0] + columns[-1] + 1) // 2, int(columns[-1] - columns[0] + 1), first


def _front(image: Image.Image) -> tuple[int, int]:
    """A place well inside of the silhouette, below its middle."""
    solid = np.asarray(image)[..., 3] >= 128
    rows, columns = np.nonzero(solid)
    row = int(np.quantile(rows, 0.68))
    filled = np.flatnonzero(solid[row])
    return int(np.median(filled)) if len(filled) else int(columns.mean()), row


def _dressed(image: Image.Image, look: SubjectLook) -> Image.Image:
    """The artwork with its accessory, trimmed again."""
    if look.accessory is None:
        return image
    place, name = look.accessory
    worn = _painted(f"fluent/{ACCESSORIES[place][name]}", look.accessory_tint)
    side = max(image.size)
    if place == "top":
        x, width, y = _top(image)
        scale = float(np.clip(width * 1.1, 0.42 * side, 0.62 * side)) / worn.width
    else:
        x, y = _front(image)
        scale = 0.46 * side / max(worn.size)
    small = (
        worn.convert("RGBa")
        .resize((round(worn.width * scale), round(worn.height * scale)), Image.Resampling.HAMMING)
        .convert("RGBA")
    )
    top = y - round(0.78 * small.height) if place == "top" else y - small.height // 2
    canvas = Image.new("RGBA", (image.width + 2 * side, image.height + 2 * side))
    canvas.paste(image, (side, side))
    canvas.alpha_composite(small, (side + x - small.width // 2, side + top))
    return canvas.crop(silhouette(canvas))


@lru_cache(maxsize=2048)
def sprite(noun: str, color: str | None, individual: int | None) -> Image.Image:
    """The upright sprite of a noun in a colour (None: its own), or of a subject; mode RGBa."""
    if individual is None:
        image = _painted(f"fluent/{label_of(noun)}", None if color is None else COLORS[color])
    else:
        look = subject(individual)
        image = _dressed(_painted(look.art, look.tint), look)
    return image.convert("RGBa")


@lru_cache(maxsize=16384)
def hull(noun: str, individual: int | None) -> NDArray[np.float64]:
    """The outermost points of a silhouette, pixels from the sprite's middle, [n, 2]."""
    image = sprite(noun, None, individual)
    solid = np.asarray(image)[..., 3] >= SOLID
    rows = np.flatnonzero(solid.any(1))
    left, right = solid.argmax(1)[rows], solid.shape[1] - solid[:, ::-1].argmax(1)[rows]
    points = [np.stack([x, y], axis=-1) for x in (left, right) for y in (rows, rows + 1)]
    middle: NDArray[np.float64] = np.concatenate(points) - (image.width / 2, image.height / 2)
    return middle
