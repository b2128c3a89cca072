"""A contact sheet of the whole world on one page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from .scenes import Picture, compose, portrait, sample
from .subjects import TRAIN_SUBJECTS
from .vocabulary import BACKGROUNDS, COLORS, NOUNS, PATTERNS

_CELL: Final = 64
_GAP: Final = 6
_PAPER: Final = (252, 249, 243)
_INK: Final = (62, 56, 60)


class _Page:
    """Rows of pictures from top to bottom; the page is cropped to what was drawn."""

    def __init__(self, width: int, height: int) -> None:
        self.canvas = Image.new("RGB", (width, height), _PAPER)
        self.draw = ImageDraw.Draw(self.canvas)
        self.y = 18

    def title(self, text: str) -> None:
        self.draw.text((20, self.y), text, fill=_INK, font=ImageFont.load_default(17))
        self.y += 28

    def row(
        self, pictures: Sequence[Picture], labels: Sequence[str] = (), size: int = _CELL, left: int = 20
    ) -> None:
        for column, picture in enumerate(pictures):
            x = left + column * (size + _GAP)
            self.canvas.paste(Image.fromarray(picture.image(size)), (x, self.y))
        self.y += size + _GAP
        lines = 0
        for column, label in enumerate(labels):
            wrapped = textwrap.wrap(label, size // 6)
            lines = max(lines, len(wrapped))
            for i, line in enumerate(wrapped):
                place = (left + column * (size + _GAP) + size / 2, self.y - 3 + 13 * i)
                self.draw.text(place, line, fill=_INK, font=ImageFont.load_default(11), anchor="ma")
        self.y += 13 * lines + (4 if lines else 0)

    def cropped(self) -> Image.Image:
        return self.canvas.crop((0, 0, self.canvas.width, self.y + 14))


def contact_sheet() -> Image.Image:
    """Nouns by colours, patterns, backgrounds and subjects at 64 pixels, scenes with captions at 134."""
    centre = (0.16, 0.16, 0.84, 0.84)
    page = _Page(40 + 12 * (_CELL + _GAP) - _GAP, 3000)
    page.title("12 nouns in 10 colours")
    for row, color in enumerate(COLORS):
        cells = [
            compose(
                BACKGROUNDS[(row * 3 + column) % 8], [(noun, color, "plain", None, None)], 12 * row + column
            )
            for column, noun in enumerate(NOUNS)
        ]
        page.row(cells, NOUNS if row == len(COLORS) - 1 else ())
    page.y += 10
    page.title("patterns, and 8 backgrounds")
    patterned = [
        compose("snow", [(noun, color, pattern, centre, None)], index)
        for index, (noun, color, pattern) in enumerate(
            zip(
                ("umbrella", "ball", "mushroom", "fish"),
                ("red", "blue", "purple", "orange"),
                PATTERNS,
                strict=True,
            )
        )
    ]
    empty = [compose(background, [], index) for index, background in enumerate(BACKGROUNDS)]
    page.row([*patterned, *empty], [*PATTERNS, *BACKGROUNDS])
    page.y += 10
    page.title("scenes and their captions")
    side = 12 * (_CELL + _GAP) // 6 - _GAP
    for row in range(2):
        scenes = [sample(200 + row * 6 + i, count=(2, 3, 1, 4, 2, 3)[i], subjects=0.1) for i in range(6)]
        page.row(scenes, [scene.caption(row) for scene in scenes], side)
    page.y += 10
    page.title("one subject in twelve poses, and others")
    page.row([portrait(75, seed) for seed in range(12)])
    for row in range(2):
        page.row([portrait(TRAIN_SUBJECTS[20 + row * 12 + i], 0) for i in range(12)])
    return page.cropped()
