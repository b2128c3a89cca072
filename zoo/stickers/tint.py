"""Artwork in another colour: the body changes hue and lightness, shading, eyes and trims stay."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Color = tuple[int, int, int]
Plane = NDArray[np.float32]

_TO_CONES: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=np.float32,
)
_TO_LAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=np.float32,
)
_HUES: Final = 24
_GRAY: Final = 0.055
"""Below this chroma a pixel has no hue."""


def oklab(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB in [0, 1], [..., 3], as OKLab (B. Ottosson, 2020): lightness 0 to 1, and two axes of colour."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float32] = (np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T).astype(np.float32)
    return lab


def srgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of `oklab`; colours outside sRGB are clipped."""
    linear = np.clip((lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_CONES).T, 0, 1)
    rgb: NDArray[np.float32] = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    ).astype(np.float32)
    return rgb


def body(lab: NDArray[np.float32], alpha: Plane) -> Plane:
    """How much of each pixel, 0 to 1, is of the artwork's own colour: the hue of the largest area, or its grey."""
    light, a, b = np.moveaxis(lab, -1, 0)
    chroma, hue = np.hypot(a, b), np.arctan2(b, a)
    solid = alpha > 0.5
    grey = solid & (chroma < _GRAY)
    if grey.sum() > 0.55 * solid.sum():
        middle = np.median(light[grey])
        near = np.clip(1.6 - np.abs(light - middle) / 0.16, 0, 1)
        gray: Plane = (near * np.clip(2 - chroma / _GRAY, 0, 1)).astype(np.float32)
        return gray
    bins = ((hue[solid] / (2 * np.pi) % 1) * _HUES).astype(int)
    area = np.bincount(bins, np.minimum(chroma[solid], 0.15), _HUES)
    peak = (np.argmax(area + np.roll(area, 1) + np.roll(area, -1)) + 0.5) / _HUES * 2 * np.pi
    apart = np.abs((hue - peak + np.pi) % (2 * np.pi) - np.pi)
    share: Plane = (np.clip(2.4 - apart / 0.33, 0, 1) * np.clip(chroma / _GRAY - 0.4, 0, 1)).astype(
        np.float32
    )
    return share


def tinted(image: Image.Image, color: Color) -> Image.Image:
    """RGBA artwork with its body in `color` (0 to 255)."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    lab, alpha = oklab(pixels[..., :3]), pixels[..., 3]
    share = body(lab, alpha)
    weight = share * alpha
    mean = (lab * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    target = oklab(np.array(color, dtype=np.float32) / np.float32(255))
    strength = np.hypot(lab[..., 1], lab[..., 2]) / max(float(np.hypot(mean[1], mean[2])), _GRAY)
    new = np.empty_like(lab)
    new[..., 0] = target[0] + 0.85 * (lab[..., 0] - mean[0])
    full = np.ones_like(strength) if np.hypot(mean[1], mean[2]) < _GRAY else np.clip(strength, 0.55, 1.25)
    new[..., 1:] = target[1:] * full[..., None]
    mixed = srgb(lab + (new - lab) * share[..., None])
    result = np.concatenate([np.clip(mixed, 0, 1), alpha[..., None]], axis=-1)
    return Image.fromarray((result * 255 + 0.5).astype(np.uint8), "RGBA")
