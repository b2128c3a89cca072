"""Where a second colour lies on a body: the patterns, and a subject's trims and emblems."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Plane = NDArray[np.float64]

TRIMS: Final = ("none", "split", "diagonal", "hem", "bands", "border", "spots")
EMBLEMS: Final = ("disc", "ring", "cross", "triangle", "diamond", "square", "bars", "star", "moon", "saltire")


def pattern_mask(name: str, x: Plane, y: Plane) -> Mask:
    """Pixels of the second colour, of the shape of x and y (object units).

    Features are at least 0.23 units wide: over two pixels on an object of 20 pixels.
    """
    if name == "plain":
        return np.zeros(x.shape, dtype=bool)
    if name == "striped":
        return np.asarray(((x * 0.8 + y * 0.6) / 0.5 + 0.1) % 1.0 < 0.46)
    if name == "dotted":
        row = np.floor(y / 0.42 + 0.5)
        dx = (x / 0.5 + 0.5 * (row % 2) + 0.5) % 1.0 - 0.5
        dy = (y / 0.42 + 0.5) % 1.0 - 0.5
        return np.asarray((dx * 0.5) ** 2 + (dy * 0.42) ** 2 < 0.145**2)
    if name == "checkered":
        return np.asarray((np.floor(x / 0.31 + 0.5) + np.floor(y / 0.31 + 0.5)) % 2 == 0)
    raise ValueError(f"pattern {name!r} is not one of plain, striped, dotted, checkered")


def trim_mask(name: str, x: Plane, y: Plane, body: Mask, emblem: tuple[float, float, float]) -> Mask:
    """Pixels of a subject's body that take its second colour; `emblem` is (x, y, radius) of its emblem."""
    ex, ey, _ = emblem
    if name == "none":
        return np.zeros(x.shape, dtype=bool)
    if name == "split":
        return x > ex
    if name == "diagonal":
        return (x - ex) * 0.7 + (y - ey) * 0.7 > 0
    if name == "hem":
        return y > ey + 0.1
    if name == "bands":
        return np.asarray(((y - ey) / 0.52 + 0.25) % 1.0 < 0.5)
    if name == "border":
        return dilate(~body, 0.2 / abs(float(x[0, 1] - x[0, 0])))
    if name == "spots":
        return pattern_mask("dotted", x + 0.25, y + 0.2)
    raise ValueError(f"trim {name!r} is not one of {', '.join(TRIMS)}")


def emblem_mask(name: str, x: Plane, y: Plane) -> Mask:
    """Pixels of an emblem whose unit disc has centre (0, 0) and radius 1."""
    r = np.hypot(x, y)
    if name == "disc":
        return r < 0.85
    if name == "ring":
        return (r < 1.0) & (r > 0.48)
    if name == "cross":
        return (np.maximum(np.abs(x), np.abs(y)) < 0.95) & (np.minimum(np.abs(x), np.abs(y)) < 0.34)
    if name == "saltire":
        return emblem_mask("cross", (x + y) * 0.7071, (x - y) * 0.7071)
    if name == "triangle":
        return (y < 0.7) & (y > -0.95 + 1.75 * np.abs(x))
    if name == "diamond":
        return np.abs(x) * 1.35 + np.abs(y) < 1.0
    if name == "square":
        return np.maximum(np.abs(x), np.abs(y)) < 0.74
    if name == "bars":
        return (np.abs(x) < 0.9) & (np.abs(np.abs(y) - 0.5) < 0.28)
    if name == "star":
        turn = (np.arctan2(x, -y) / (2 * np.pi) * 5 + 0.5) % 1.0 - 0.5
        return r < 1.05 - 1.15 * np.abs(turn)
    if name == "moon":
        return (r < 0.95) & (np.hypot(x - 0.55, y + 0.2) > 0.75)
    raise ValueError(f"emblem {name!r} is not one of {', '.join(EMBLEMS)}")


def dilate(mask: Mask, radius: float) -> Mask:
    """The mask grown by a disc of `radius` pixels."""
    result = mask.copy()
    reach = int(np.ceil(radius)) + 1
    padded = np.pad(mask, reach)
    height, width = mask.shape
    for scale in (1.0, 0.6):
        for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False):
            dy = reach + round(float(scale * radius * np.sin(angle)))
            dx = reach + round(float(scale * radius * np.cos(angle)))
            result |= padded[dy : dy + height, dx : dx + width]
    return result
