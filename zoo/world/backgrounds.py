"""Eight muted textures, drawn once as large canvases from which every picture takes its own window."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

_CANVAS: Final = 768
_FINE: Final = 2 * _CANVAS
_WINDOW: Final = (116.0, 168.0)
"""Side of a picture's window in canvas pixels, at least and at most."""

Color = tuple[int, int, int]


def _noise(rng: np.random.Generator, cells_x: int, cells_y: int) -> NDArray[np.float64]:
    """Smooth noise, about -1 to 1, [_FINE, _FINE]."""
    coarse = Image.fromarray(rng.uniform(-1.4, 1.4, (cells_y, cells_x)).astype(np.float32))
    return np.asarray(coarse.resize((_FINE, _FINE), Image.Resampling.BICUBIC)).astype(np.float64)


def _ground(color: Color, *layers: tuple[float, NDArray[np.float64]]) -> Image.Image:
    plane = np.zeros((_FINE, _FINE))
    for strength, noise in layers:
        plane += strength * noise
    return Image.fromarray(np.clip(np.array(color) + plane[..., None], 0, 255).astype(np.uint8))


def _scattered(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """About `count` points, [n, 2], one in every cell of a grid, so that no window is empty."""
    cells = round(count**0.5)
    corners = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), axis=-1).reshape(-1, 2)
    points: NDArray[np.float64] = (corners + rng.uniform(0, 1, corners.shape)) * (_FINE / cells)
    return points


def _grass(rng: np.random.Generator) -> Image.Image:
    image = _ground((160, 186, 128), (9, _noise(rng, 14, 14)), (4, _noise(rng, 60, 60)))
    draw = ImageDraw.Draw(image)
    for x, y in rng.uniform(0, _FINE, (5200, 2)):
        lean, height = rng.uniform(-9, 9), rng.uniform(14, 28)
        tone = [(136, 168, 106), (178, 202, 144), (148, 178, 116)][int(rng.integers(3))]
        draw.line([(x, y), (x + lean, y - height)], fill=tone, width=5)
    for x, y in _scattered(rng, 144):
        for angle in range(0, 360, 72):
            px, py = x + 7 * np.cos(np.deg2rad(angle)), y + 7 * np.sin(np.deg2rad(angle))
            draw.ellipse([px - 5, py - 5, px + 5, py + 5], fill=(236, 236, 222))
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=(226, 204, 130))
    return image


def _sand(rng: np.random.Generator) -> Image.Image:
    y = np.arange(_FINE)[:, None]
    ripples = np.sin(y / 15 + 3.2 * _noise(rng, 9, 9)) * np.clip(_noise(rng, 12, 12) + 0.5, 0, 1)
    image = _ground((228, 211, 172), (7, _noise(rng, 8, 8)), (7, ripples))
    draw = ImageDraw.Draw(image)
    for x, yy in rng.uniform(0, _FINE, (2600, 2)):
        tone = [(208, 188, 146), (242, 230, 200), (198, 176, 138)][int(rng.integers(3))]
        radius = rng.uniform(2, 4.5)
        draw.ellipse([x - radius, yy - radius, x + radius, yy + radius], fill=tone)
    return image


def _water(rng: np.random.Generator) -> Image.Image:
    image = _ground((116, 170, 184), (10, _noise(rng, 5, 18)), (4, _noise(rng, 16, 50)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 625):
        light = rng.random() < 0.6
        length = rng.uniform(36, 84)
        wave = [(x + t * length, y + 7 * np.sin(t * 2 * np.pi)) for t in np.linspace(0, 1, 16)]
        draw.line(wave, fill=(168, 208, 214) if light else (90, 146, 164), width=6, joint="curve")
    return image


def _snow(rng: np.random.Generator) -> Image.Image:
    image = _ground((229, 235, 241), (7, _noise(rng, 7, 10)), (3, _noise(rng, 24, 24)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 121):
        width, height = rng.uniform(60, 120), rng.uniform(18, 32)
        draw.arc([x - width, y - height, x + width, y + height], 190, 350, fill=(206, 217, 230), width=6)
    for x, y in rng.uniform(0, _FINE, (1100, 2)):
        radius = rng.uniform(3, 7)
        tone = (252, 253, 255) if rng.random() < 0.7 else (208, 220, 234)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=tone)
    return image


def _sky(rng: np.random.Generator) -> Image.Image:
    image = _ground((168, 204, 238), (8, _noise(rng, 5, 5)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 150):
        half = rng.uniform(40, 66)
        tone = (234, 242, 250) if rng.random() < 0.7 else (214, 229, 245)
        for share, rise in ((-0.62, 0.3), (0.0, 0.52), (0.6, 0.34)):
            cx, radius = x + share * half, half * (0.2 + rise)
            draw.ellipse([cx - radius, y - radius * 1.15, cx + radius, y + radius * 0.5], fill=tone)
    return image


def _night(rng: np.random.Generator) -> Image.Image:
    image = _ground((76, 82, 130), (8, _noise(rng, 5, 5)), (4, _noise(rng, 16, 16)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 900):
        radius = rng.choice([2.6, 3.6, 5.2], p=[0.5, 0.35, 0.15])
        tone = (238, 230, 190) if rng.random() < 0.6 else (176, 182, 220)
        if radius > 5:
            draw.line([(x - 13, y), (x + 13, y)], fill=tone, width=3)
            draw.line([(x, y - 13), (x, y + 13)], fill=tone, width=3)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=tone)
    return image


def _brick(rng: np.random.Generator) -> Image.Image:
    image = _ground((214, 202, 190), (5, _noise(rng, 40, 40)))
    draw = ImageDraw.Draw(image)
    width, height, gap = 96, 48, 5
    for row in range(_FINE // height + 1):
        for column in range(-1, _FINE // width + 2):
            x, y = column * width + (row % 2) * width // 2, row * height
            shift = rng.normal(0, 8)
            tone = tuple(int(c + shift) for c in (187, 138, 122))
            draw.rounded_rectangle([x + gap, y + gap, x + width - gap, y + height - gap], 7, fill=tone)
    return image


def _wood(rng: np.random.Generator) -> Image.Image:
    image = _ground((186, 152, 114), (4, _noise(rng, 4, 160)), (5, _noise(rng, 3, 40)))
    draw = ImageDraw.Draw(image, "RGBA")
    plank = 88
    for row in range(_FINE // plank + 1):
        y = row * plank
        light = int(rng.integers(-14, 15))
        draw.rectangle(
            [0, y, _FINE, y + plank],
            fill=(255, 240, 210, 2 * light) if light > 0 else (70, 40, 20, -2 * light),
        )
        for _ in range(22):
            x, grain = rng.uniform(0, _FINE), y + rng.uniform(12, plank - 10)
            length = rng.uniform(90, 240)
            line = [(x + t * length, grain + 4 * np.sin(t * 5 + row)) for t in np.linspace(0, 1, 12)]
            draw.line(line, fill=(150, 114, 80, 170), width=4)
        draw.rectangle([0, y, _FINE, y + 6], fill=(128, 94, 64, 255))
        for x in rng.uniform(0, _FINE, 4):
            draw.rectangle([x, y, x + 6, y + plank], fill=(128, 94, 64, 255))
    return image


_BUILDERS: Final[dict[str, Callable[[np.random.Generator], Image.Image]]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "snow": _snow,
    "sky": _sky,
    "night": _night,
    "brick": _brick,
    "wood": _wood,
}


@lru_cache(maxsize=8)
def _canvas(name: str) -> Image.Image:
    rng = np.random.default_rng([31, list(_BUILDERS).index(name)])
    return _BUILDERS[name](rng).filter(ImageFilter.GaussianBlur(1.2)).reduce(2)


def paint_background(name: str, seed: int, size: int) -> NDArray[np.float32]:
    """A window of the texture, RGB 0 to 255, [size, size, 3]; `seed` places, scales, mirrors and tints it."""
    canvas = _canvas(name)
    x, y, scale, mirror, *tint = np.random.default_rng([53, seed]).random(7).tolist()
    side = _WINDOW[0] + scale * (_WINDOW[1] - _WINDOW[0])
    left, top = x * (_CANVAS - side), y * (_CANVAS - side)
    window = canvas.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = np.asarray(window)
    if mirror < 0.5:
        pixels = pixels[:, ::-1]
    shift = np.array(tint, dtype=np.float32) * 8 - 4 + np.float32((scale * 7919) % 1 * 12 - 6)
    tinted: NDArray[np.float32] = np.clip(pixels + shift, 0, 255).astype(np.float32)
    return tinted
