"""The atlas of sprites, built from artwork on npm: ``python -m weft.zoo.stickers atlas --packages DIR``.

The packages are @lobehub/fluent-emoji-3d 1.1.0 (WebP, MIT), @iconify-json/noto (SVG, Apache-2.0) and emojibase-data
(labels, MIT), each unpacked by ``npm pack`` into ``DIR/<name>``. Drawing SVG needs resvg-py (the extra ``train``).
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from .atlas import ATLAS, INDEX, MARGIN, SIDE
from .vocabulary import artworks

COLUMNS = 24
DRAWN = 256  # pixels of a source; trimmed and reduced to SIDE from there


def codes(packages: Path) -> dict[str, str]:
    """Code points in hexadecimal, joined by hyphens, of each English label."""
    entries = json.loads((packages / "emojibase-data/en/data.json").read_text(encoding="utf-8"))
    return {entry["label"]: entry["hexcode"].lower() for entry in entries}


class Fluent:
    """Rendered objects: one WebP with transparency a code point."""

    def __init__(self, packages: Path) -> None:
        self.folder = packages / "fluent-emoji-3d/assets"

    def draw(self, code: str) -> Image.Image:
        for name in (code, code.removesuffix("-fe0f"), f"{code}-fe0f"):
            if (self.folder / f"{name}.webp").exists():
                return Image.open(self.folder / f"{name}.webp").convert("RGBA")
        raise FileNotFoundError(f"{self.folder / code}.webp: no artwork of this code point")


class Noto:
    """Flat drawings of the same objects: SVG, drawn by resvg."""

    def __init__(self, packages: Path) -> None:
        folder = packages / "noto"
        self.icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        self.names = json.loads((folder / "chars.json").read_text(encoding="utf-8"))

    def draw(self, code: str) -> Image.Image:
        import resvg_py

        name = next(
            self.names[c] for c in (code, code.removesuffix("-fe0f"), f"{code}-fe0f") if c in self.names
        )
        name = self.icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = self.icons["icons"][name]
        width = icon.get("width", self.icons.get("width", 16))
        height = icon.get("height", self.icons.get("height", 16))
        names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        svg = f'<svg {names} viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        png = resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN, height=DRAWN)
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def trimmed(image: Image.Image) -> Image.Image:
    """The visible part, its longer side SIDE pixels."""
    alpha = image.getchannel("A").point(lambda value: 255 if value >= 16 else 0)
    part = image.crop(alpha.getbbox())
    scale = SIDE / max(part.size)
    size = (max(round(part.width * scale), 1), max(round(part.height * scale), 1))
    return part.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def build(packages: Path, folder: Path, quality: int = 78) -> None:
    """Write the atlas (WebP, one cell a sprite) and its index (JSON, name to left, top, right, bottom)."""
    by_label = codes(packages)
    styles: dict[str, Fluent | Noto] = {"fluent": Fluent(packages), "noto": Noto(packages)}
    names = artworks()
    cell = SIDE + MARGIN
    rows = -(-len(names) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * cell, rows * cell))
    places: dict[str, tuple[int, int, int, int]] = {}
    for i, name in enumerate(names):
        style, label = name.split("/")
        sprite = trimmed(styles[style].draw(by_label[label]))
        x, y = i % COLUMNS * cell, i // COLUMNS * cell
        sheet.paste(sprite, (x, y))
        places[name] = (x, y, x + sprite.width, y + sprite.height)
    sheet.save(folder / ATLAS, quality=quality, alpha_quality=60, method=6)
    lines = ",\n".join(f" {json.dumps(k, ensure_ascii=False)}: {json.dumps(v)}" for k, v in places.items())
    (folder / INDEX).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
