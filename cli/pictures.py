"""Laying pictures out on a labelled sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

GAP = 12
CELL = 192
TEXT = 15
INK = (40, 40, 52)


@dataclass(frozen=True)
class Row:
    """Pictures side by side, what they have in common, and what is said below each; empty for nothing."""

    label: str
    images: Sequence[Image.Image]
    captions: Sequence[str] = ()


def sheet(rows: Sequence[Row], columns: int = 1) -> Image.Image:
    """Rows of pictures, each with its label above and captions below, in one or more columns.

    Small pictures are enlarged smoothly.
    """
    font = ImageFont.load_default(TEXT)
    enlarged = [[_enlarge(image) for image in row.images] for row in rows]
    width = max(sum(image.width + GAP for image in images) - GAP for images in enlarged)
    labels = [_wrapped(row.label, width, font) for row in rows]
    captions = [
        [
            _wrapped(text, image.width, font)
            for text, image in zip(row.captions, images, strict=bool(row.captions))
        ]
        for row, images in zip(rows, enlarged, strict=True)
    ]
    line = TEXT + 5
    high = [len(label) * line for label in labels]
    below = [max(map(len, texts), default=0) * line for texts in captions]
    tall = [
        max(image.height for image in images) + space for images, space in zip(enlarged, below, strict=True)
    ]
    deep = -(-len(rows) // columns)
    tops = [GAP]
    for start in range(deep):
        beside = range(start * columns, min(len(rows), (start + 1) * columns))
        tops.append(tops[-1] + max(high[i] for i in beside) + max(tall[i] for i in beside) + 2 * GAP)
    made = Image.new("RGB", (GAP + columns * (width + 2 * GAP) - GAP, tops[-1]), "white")
    draw = ImageDraw.Draw(made)
    for number, images in enumerate(enlarged):
        down, across = divmod(number, columns)
        x, y = GAP + across * (width + 2 * GAP), tops[down]
        for offset, text in enumerate(labels[number]):
            draw.text((x, y + offset * line), text, fill=INK, font=font)
        y += max(high[i] for i in range(down * columns, min(len(rows), (down + 1) * columns)))
        for place, image in enumerate(images):
            made.paste(image, (x, y))
            for offset, text in enumerate(captions[number][place] if captions[number] else ()):
                draw.text((x, y + image.height + offset * line), text, fill=INK, font=font)
            x += image.width + GAP
    return made


def _wrapped(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """Lines that fit the width, long words broken."""
    most = 2 * len(text) * width / max(1.0, font.getlength(text))  # a line of narrow letters alone
    for characters in range(min(len(text), int(most)), 1, -1):
        lines = textwrap.wrap(text, characters)
        if max(map(font.getlength, lines), default=0) <= width:
            return lines
    return textwrap.wrap(text, 1)


def _enlarge(image: Image.Image) -> Image.Image:
    factor = max(1, CELL // max(image.size))
    if factor == 1:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
