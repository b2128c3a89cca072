"""Images side by side: tiles, and sheets of labelled rows. Free of torch."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

GAP = 12
CELL = 192
TEXT = 15
LINE = TEXT + 5
INK = (40, 40, 52)

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Row:
    """Images side by side, what they have in common, and what is said below each; empty for nothing."""

    label: str
    images: Sequence[Image.Image]
    captions: Sequence[str] = ()


def tile(images: Sequence[Image.Image], columns: int | None = None, gap: int = 4) -> Image.Image:
    """Images in rows on white; every column is as wide, and every row as high, as its largest image.

    Args:
        images: at least one, of any sizes.
        columns: images per row; as square as possible by default.
        gap: white pixels between images.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    widest = max(image.width for image in images)
    widths = [max((image.width for image in images[i::columns]), default=widest) for i in range(columns)]
    heights = [max(image.height for image in row) for row in rows]
    size = (sum(widths) + gap * (columns - 1), sum(heights) + gap * (len(rows) - 1))
    canvas = Image.new("RGB", size, "white")
    for y, row in zip(_starts(heights, gap), rows, strict=True):
        for x, image in zip(_starts(widths, gap), row, strict=False):
            canvas.paste(image, (x, y))
    return canvas


def sheet(rows: Sequence[Row], columns: int = 1, cell: int = CELL) -> Image.Image:
    """Rows of images, each with its label above and captions below, in one or more columns.

    Args:
        rows: at least one, each with an image.
        columns: rows side by side.
        cell: pixels; smaller images are enlarged, smoothly and by whole factors, as long as they fit.
    """
    font = ImageFont.load_default(TEXT)
    enlarged = [[_enlarged(image, cell) for image in row.images] for row in rows]
    width = max(sum(image.width + GAP for image in images) - GAP for images in enlarged)
    labels = [_wrapped(row.label, width, font) for row in rows]
    blocks: list[Image.Image] = []
    for number, (row, images) in enumerate(zip(rows, enlarged, strict=True)):
        texts = row.captions or [""] * len(images)
        captions = [_wrapped(text, image.width, font) for text, image in zip(texts, images, strict=True)]
        deepest = max(map(len, captions))
        pairs = zip(images, captions, strict=True)
        line = tile([_captioned(*pair, deepest, font) for pair in pairs], len(images), 0)
        # images beside each other begin at one height
        start = number // columns * columns
        height = LINE * max(map(len, labels[start : start + columns]))
        block = Image.new("RGB", (width + GAP, height + line.height + GAP), "white")
        block.paste(line, (0, height))
        _write(block, labels[number], 0, font)
        blocks.append(block)
    return ImageOps.expand(tile(blocks, columns, GAP), (GAP // 2, GAP), "white")


def _captioned(image: Image.Image, lines: Sequence[str], most: int, font: Font) -> Image.Image:
    """An image with its caption below, in space for so many lines, and white to its sides, where letters hang over."""
    canvas = Image.new("RGB", (image.width + GAP, image.height + LINE * most), "white")
    canvas.paste(image, (GAP // 2, 0))
    _write(canvas, lines, image.height, font)
    return canvas


def _write(canvas: Image.Image, lines: Sequence[str], y: int, font: Font) -> None:
    draw = ImageDraw.Draw(canvas)
    for number, text in enumerate(lines):
        draw.text((GAP // 2, y + number * LINE), text, fill=INK, font=font)


def _starts(sizes: Sequence[int], gap: int) -> Iterator[int]:
    """Where each of some images begins that follow each other."""
    return itertools.accumulate((size + gap for size in sizes[:-1]), initial=0)


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """Lines that fit the width, long words broken."""
    most = 2 * len(text) * width / max(1.0, font.getlength(text))  # a line of narrow letters alone
    for characters in range(min(len(text), int(most)), 1, -1):
        lines = textwrap.wrap(text, characters)
        if max(map(font.getlength, lines), default=0) <= width:
            return lines
    return textwrap.wrap(text, 1)


def _enlarged(image: Image.Image, cell: int) -> Image.Image:
    factor = max(1, cell // max(image.size))
    if factor == 1:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
