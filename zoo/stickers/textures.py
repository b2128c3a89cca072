"""Drawn textures: one large canvas a background, of which every picture shows a window.

Tones are pale and shapes broad, so that things stand out and few latents are spent on what lies behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from .tint import Color

CANVAS: Final = 400
"""Side of a canvas in pixels; it is drawn twice as large."""
_FINE: Final = 2 * CANVAS

Plane = NDArray[np.float64]


def _noise(rng: np.random.Generator, columns: int, rows: int) -> Plane:
    """Smooth noise, about -1 to 1, with so many cells each way, [_FINE, _FINE]."""
    coarse = Image.fromarray(rng.uniform(-1.4, 1.4, (rows, columns)).astype(np.float32))
    return np.asarray(coarse.resize((_FINE, _FINE), Image.Resampling.BICUBIC)).astype(np.float64)


def _ground(color: Color | NDArray[np.float64], *layers: tuple[float, Plane]) -> Image.Image:
    plane = sum((strength * noise for strength, noise in layers), np.zeros((_FINE, _FINE)))
    return Image.fromarray(np.clip(np.asarray(color) + plane[..., None], 0, 255).astype(np.uint8))


def _gradient(*colors: Color) -> NDArray[np.float64]:
    """Colours from top to bottom, evenly apart, [_FINE, 1, 3]."""
    at = np.linspace(0, len(colors) - 1, _FINE)
    channels = [np.interp(at, np.arange(len(colors)), [c[k] for c in colors]) for k in range(3)]
    return np.stack(channels, axis=-1)[:, None]


def _scattered(rng: np.random.Generator, cells: int) -> list[tuple[float, float]]:
    """A point in every cell of a grid, top to bottom, so that no window is empty."""
    corners = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), axis=-1).reshape(-1, 2)
    points = (corners + rng.uniform(0.1, 0.9, corners.shape)) * (_FINE / cells)
    return [(float(x), float(y)) for x, y in points]


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Color) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


def _pick(rng: np.random.Generator, colors: Sequence[Color]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _grass(rng: np.random.Generator) -> Image.Image:
    image = _ground((150, 194, 104), (12, _noise(rng, 6, 6)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 20):
        tone = _pick(rng, [(128, 176, 86), (170, 210, 122)])
        for lean in (-9, 0, 9):
            draw.line([(x, y), (x + lean, y - 20)], fill=tone, width=6)
    for x, y in _scattered(rng, 7):
        for angle in np.deg2rad(range(0, 360, 72)):
            _disc(draw, x + 8 * np.cos(angle), y + 8 * np.sin(angle), 6, (246, 246, 236))
        _disc(draw, x, y, 5, (238, 206, 96))
    return image


def _sand(rng: np.random.Generator) -> Image.Image:
    rows = np.arange(_FINE)[:, None]
    ripples = np.sin(rows / 17 + 3 * _noise(rng, 5, 5)) * np.clip(_noise(rng, 5, 5) + 0.6, 0, 1)
    image = _ground((234, 212, 162), (7, _noise(rng, 5, 5)), (8, ripples))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 12):
        _disc(draw, x, y, rng.uniform(3, 6), _pick(rng, [(212, 186, 134), (248, 234, 200)]))
    return image


def _water(rng: np.random.Generator) -> Image.Image:
    image = _ground((92, 176, 210), (12, _noise(rng, 4, 9)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 13):
        length, tone = rng.uniform(44, 90), _pick(rng, [(150, 212, 232), (68, 150, 194)])
        wave = [(x + t * length, y + 7 * np.sin(t * 2 * np.pi)) for t in np.linspace(0, 1, 16)]
        draw.line(wave, fill=tone, width=8, joint="curve")
    return image


def _snow(rng: np.random.Generator) -> Image.Image:
    image = _ground((228, 236, 246), (8, _noise(rng, 5, 7)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 7):
        width, height = rng.uniform(50, 100), rng.uniform(16, 28)
        draw.arc([x - width, y - height, x + width, y + height], 190, 350, fill=(202, 216, 236), width=8)
    for x, y in _scattered(rng, 10):
        _disc(draw, x, y, rng.uniform(4, 8), (253, 254, 255))
    return image


def _sky(rng: np.random.Generator) -> Image.Image:
    image = _ground(_gradient((118, 186, 242), (188, 224, 250)), (5, _noise(rng, 4, 4)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 4):
        half = rng.uniform(50, 80)
        for share, rise in ((-0.62, 0.3), (0.0, 0.55), (0.6, 0.36)):
            middle, radius = x + share * half, half * (0.2 + rise)
            draw.ellipse(
                [middle - radius, y - radius, middle + radius, y + radius * 0.5], fill=(240, 247, 253)
            )
    return image


def _night(rng: np.random.Generator) -> Image.Image:
    image = _ground(_gradient((36, 38, 92), (74, 72, 142)), (8, _noise(rng, 4, 4)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 11):
        _disc(draw, x, y, rng.uniform(3, 6), _pick(rng, [(250, 238, 180), (190, 196, 240)]))
    return image


def _sunset(rng: np.random.Generator) -> Image.Image:
    colors = _gradient((120, 84, 160), (226, 110, 130), (250, 166, 104), (252, 206, 130))
    image = _ground(colors, (5, _noise(rng, 3, 6)))
    draw = ImageDraw.Draw(image)
    for x, y in _scattered(rng, 4):
        length, height = rng.uniform(60, 130), rng.uniform(7, 12)
        tone = (250, 190, 160) if y > _FINE / 2 else (196, 120, 160)
        draw.rounded_rectangle([x - length, y - height, x + length, y + height], height, fill=tone)
    return image


def _brick(rng: np.random.Generator) -> Image.Image:
    image = _ground((224, 208, 196))
    draw = ImageDraw.Draw(image)
    width, height, gap = 116, 58, 5
    for row in range(_FINE // height + 1):
        for column in range(-1, _FINE // width + 2):
            x, y = column * width + row % 2 * width // 2, row * height
            shift = rng.normal(0, 7)
            tone = (int(196 + shift), int(126 + shift), int(104 + shift))
            draw.rounded_rectangle([x + gap, y + gap, x + width - gap, y + height - gap], 8, fill=tone)
    return image


def _wood(rng: np.random.Generator) -> Image.Image:
    image = _ground((198, 156, 108), (8, _noise(rng, 3, 40)))
    draw = ImageDraw.Draw(image, "RGBA")
    plank = 100
    for row in range(_FINE // plank):
        y, light = row * plank, int(rng.integers(-16, 17))
        shade = (255, 240, 210, 2 * light) if light > 0 else (70, 40, 20, -2 * light)
        draw.rectangle([0, y, _FINE, y + plank], fill=shade)
        for _ in range(7):
            x, grain, length = rng.uniform(0, _FINE), y + rng.uniform(18, plank - 18), rng.uniform(100, 240)
            draw.line([(x, grain), (x + length, grain)], fill=(160, 116, 74, 200), width=6)
        for x in rng.uniform(0, _FINE, 2):
            draw.rectangle([x, y, x + 7, y + plank], fill=(138, 98, 62, 255))
        draw.rectangle([0, y, _FINE, y + 7], fill=(138, 98, 62, 255))
    return image


def _stone(rng: np.random.Generator) -> Image.Image:
    """Slabs: the cells of scattered points, with gaps where two are equally near."""
    points = np.array(_scattered(rng, 8))
    axis = np.arange(0, _FINE, 2)
    x, y = np.meshgrid(axis, axis)
    apart = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1])
    nearest = np.sort(apart, axis=-1)[..., :2]
    gap = np.clip((nearest[..., 1] - nearest[..., 0] - 4) / 6, 0, 1)
    tone = rng.normal(0, 8, len(points))[apart.argmin(-1)]
    plane = (1 - gap) * 132 + gap * (182 + tone)
    rgb = np.stack([plane, plane + 1, plane + 8], axis=-1)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).resize((_FINE, _FINE))


def _tiles(rng: np.random.Generator) -> Image.Image:
    image = _ground((250, 248, 244))
    draw = ImageDraw.Draw(image)
    side = 80
    for row in range(_FINE // side):
        for column in range(_FINE // side):
            tone = (168, 214, 208) if (row + column) % 2 else (240, 236, 224)
            x, y = column * side, row * side
            draw.rectangle([x + 3, y + 3, x + side - 3, y + side - 3], fill=tone)
    return image


def _curtain(rng: np.random.Generator) -> Image.Image:
    columns = np.arange(_FINE)[None]
    folds = np.sin(columns / 21 + 1.5 * _noise(rng, 4, 2))
    return _ground((176, 78, 104), (26, folds), (6, _noise(rng, 4, 4)))


_DRAWN: Final[dict[str, Callable[[np.random.Generator], Image.Image]]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "snow": _snow,
    "sky": _sky,
    "night": _night,
    "sunset": _sunset,
    "brick": _brick,
    "wood": _wood,
    "stone": _stone,
    "tiles": _tiles,
    "curtain": _curtain,
}


@lru_cache(maxsize=len(_DRAWN))
def canvas(name: str) -> Image.Image:
    """The canvas of a background, RGB, CANVAS pixels square."""
    rng = np.random.default_rng([31, list(_DRAWN).index(name)])
    return _DRAWN[name](rng).filter(ImageFilter.GaussianBlur(2)).reduce(2)
