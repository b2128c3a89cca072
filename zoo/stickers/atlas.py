"""The sprites: artwork trimmed to what is visible, from one image."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Final

from PIL import Image

SIDE: Final = 112
"""Pixels of a sprite's longer side."""
MARGIN: Final = 8
ATLAS: Final = "atlas.webp"
INDEX: Final = "atlas.json"
_FOLDER: Final = Path(__file__).parent


@cache
def _atlas() -> tuple[Image.Image, dict[str, tuple[int, int, int, int]]]:
    with Image.open(_FOLDER / ATLAS) as image:
        sheet = image.convert("RGBA")
    places = json.loads((_FOLDER / INDEX).read_text(encoding="utf-8"))
    return sheet, {name: (left, top, right, bottom) for name, (left, top, right, bottom) in places.items()}


@cache
def artwork(name: str) -> Image.Image:
    """The sprite named "style/label", as RGBA. Raises `KeyError` where the atlas has none."""
    sheet, places = _atlas()
    return sheet.crop(places[name])
