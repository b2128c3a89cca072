"""What lies behind the objects: a window of a drawn texture."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .textures import CANVAS, canvas

_WINDOW: Final = (150.0, 230.0)
"""Side of a picture's window in pixels of the canvas, at least and at most."""


def paint_background(name: str, seed: int, size: int) -> NDArray[np.float32]:
    """A window of the texture, RGB 0 to 255, [size, size, 3]; `seed` places, scales, mirrors and tints it."""
    x, y, scale, mirror, light, *tint = np.random.default_rng([53, seed]).random(8).tolist()
    side = _WINDOW[0] + scale * (_WINDOW[1] - _WINDOW[0])
    left, top = x * (CANVAS - side), y * (CANVAS - side)
    window = canvas(name).resize((size, size), Image.Resampling.HAMMING, (left, top, left + side, top + side))
    pixels = np.asarray(window, dtype=np.float32)
    if mirror < 0.5:
        pixels = pixels[:, ::-1]
    shift = np.array(tint, dtype=np.float32) * 8 - 4 + np.float32(light * 12 - 6)
    tinted: NDArray[np.float32] = np.clip(pixels + shift, 0, 255)
    return tinted
