"""A small line chart and a labelled contact sheet, drawn with Pillow. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which the colour-blind can tell apart
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
GRAY, LIGHT, BLACK = (110, 110, 110), (225, 225, 225), (20, 20, 20)
# drawn so much larger and reduced, for smooth lines
FINENESS = 3


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        name: for the legend.
        values: one at each x.
        bands: (low, high) at each x, drawn as a shade; none by default.
    """

    name: str
    values: Sequence[float]
    bands: Sequence[tuple[float, float]] = ()


def chart(
    x: Sequence[float], lines: Sequence[Line], label: str, size: tuple[int, int] = (560, 340)
) -> Image.Image:
    """Curves over a shared axis.

    Args:
        x: rising, at least two.
        lines: each with as many values.
        label: of the x axis.
        size: (width, height) in pixels.
    """
    width, height = (side * FINENESS for side in size)
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture, "RGBA"), ImageFont.load_default(13 * FINENESS)
    every = [value for line in lines for value in line.values]
    every += [value for line in lines for band in line.bands for value in band]
    ticks = _ticks(min(every), max(every))
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    unit = FINENESS * 13
    left, right, top, bottom = 4.5 * unit, width - unit, unit * (1 + 1.5 * len(lines)), height - 3.6 * unit

    def at(a: float, b: float) -> tuple[float, float]:
        across = (a - x[0]) / (x[-1] - x[0])
        up = (b - ticks[0]) / (ticks[-1] - ticks[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    for tick in ticks:
        _, y = at(x[0], tick)
        pen.line([(left, y), (right, y)], fill=LIGHT, width=FINENESS)
        pen.text((left - unit / 2, y), f"{tick:.{digits}f}", fill=GRAY, font=font, anchor="rm")
    # labels of close values would run into each other
    for value in x[:: max(1, math.ceil(len(x) / 11))]:
        pen.text((at(value, ticks[0])[0], bottom + unit), f"{value:g}", fill=GRAY, font=font, anchor="mm")
    pen.text(((left + right) / 2, bottom + 2.6 * unit), label, fill=BLACK, font=font, anchor="mm")
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        if line.bands:
            low = [at(a, band[0]) for a, band in zip(x, line.bands, strict=True)]
            high = [at(a, band[1]) for a, band in zip(x, line.bands, strict=True)]
            pen.polygon(low + high[::-1], fill=(*color, 45))
        points = [at(a, b) for a, b in zip(x, line.values, strict=True)]
        pen.line(points, fill=color, width=2 * FINENESS, joint="curve")
        for px, py in points:
            pen.ellipse((px - unit / 5, py - unit / 5, px + unit / 5, py + unit / 5), fill=color)
        row = unit * (0.9 + 1.5 * number)
        pen.line([(left, row), (left + 2 * unit, row)], fill=color, width=2 * FINENESS)
        pen.text((left + 2.5 * unit, row), line.name, fill=BLACK, font=font, anchor="lm")
    return picture.resize(size, Image.Resampling.LANCZOS)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, three to seven of them, from below the lowest value to above the highest."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = min((k * power for k in (1, 2, 5, 10)), key=lambda size: abs(span / size - 4))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [number * step for number in range(first, last + 1)]


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], labels: Sequence[str], least: int = 64
) -> Image.Image:
    """Pictures in a table, with a label over each column and beside each row.

    Args:
        rows: as many pictures in each as there are columns, all of one size.
        columns: labels.
        labels: of the rows.
        least: the shorter side of a picture; smaller ones are enlarged by whole factors.
    """
    factor = max(1, math.ceil(least / min(rows[0][0].size)))
    width, height = (side * factor for side in rows[0][0].size)
    font, gap = ImageFont.load_default(13), 4
    left = max((math.ceil(font.getlength(label)) for label in labels), default=0) + 2 * gap
    top = 13 + 2 * gap
    size = (left + len(columns) * (width + gap), top + len(rows) * (height + gap))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for number, label in enumerate(columns):
        pen.text((left + number * (width + gap) + width / 2, top / 2), label, BLACK, font, "mm")
    for number, (label, pictures) in enumerate(zip(labels, rows, strict=True)):
        y = top + number * (height + gap)
        pen.text((left - gap, y + height / 2), label, BLACK, font, "rm")
        for column, picture in enumerate(pictures):
            enlarged = picture.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left + column * (width + gap), y))
    return sheet
