"""What `weft generate` writes beside the pictures: contact sheets, and a table and a plot of what was measured."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..core.errors import UserError
from ..core.jobs.job import Item
from ..core.jobs.output_folder import Store
from ..core.storage.atomic import write_file, write_image
from .pictures import Row, sheet
from .show import errors, out, print_table, table

SHEET = "sheet.png"
TABLE = "metrics.csv"
PLOT = "metrics.png"
PICTURES_A_SHEET = 100
SHEETS = 10
PICTURES_A_ROW = 10
CAPTION = 40
"""Characters of a swept value on the sheet."""


def write_report(store: Store, items: Sequence[Item]) -> None:
    """Write the sheets of at least two pictures, and the table and the plot of metrics, when there are some."""
    if len(items) > 1:
        for number, part in enumerate(_parts(_lines(items)), 1):
            name = SHEET if number == 1 else f"{Path(SHEET).stem}-{number}.png"
            write_image(sheet([_row(store, line) for line in part]), store.folder / name)
    names = list(dict.fromkeys(name for item in items for name in item.run.metrics))
    if names:
        _write_table(store, items, names)
        _print_means(store, items, names)
        if any(item.run.sweep for item in items):
            _plot(store, items, names)


@dataclass(frozen=True)
class _Line:
    """Items side by side, what they have in common, and what each differs by."""

    label: str
    items: Sequence[Item]
    captions: Sequence[str]


def _lines(items: Sequence[Item]) -> list[_Line]:
    """A line for each scene and variant, its seeds along it; with one seed, the values of the last swept setting."""
    scenes = len({item.run.number for item in items}) > 1
    seeds = len({item.seed for item in items}) > 1
    rows: dict[str, list[Item]] = {}
    captions: dict[str, list[str]] = {}
    for item in items:
        swept = [_pair(name, value) for name, value in item.run.sweep.items()]
        head, along = (swept, [f"seed {item.seed}"]) if seeds else (swept[:-1], swept[-1:])
        prompt = [item.run.scene.prompt] if scenes or not swept else []
        label = ", ".join([*prompt, *head])
        rows.setdefault(label, []).append(item)
        captions.setdefault(label, []).append(", ".join(along))
    return [
        _Line(
            "" if start else label,
            members[start : start + PICTURES_A_ROW],
            captions[label][start : start + PICTURES_A_ROW],
        )
        for label, members in rows.items()
        for start in range(0, len(members), PICTURES_A_ROW)
    ]


def _parts(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Lines of at most `PICTURES_A_SHEET` pictures, for at most `SHEETS` sheets."""
    part: list[_Line] = []
    made = 0
    for line in lines:
        if part and sum(len(one.items) for one in part) + len(line.items) > PICTURES_A_SHEET:
            yield part
            part, made = [], made + 1
            if made == SHEETS:
                return
        part.append(line)
    yield part


def _row(store: Store, line: _Line) -> Row:
    pictures = []
    for item in line.items:
        path = store.path(item)
        if path is None:
            raise UserError(f"item {item.number}", "a picture", "none")
        with Image.open(path, formats=["PNG"]) as image:
            pictures.append(image.convert("RGB"))
    return Row(line.label, pictures, line.captions)


def _pair(name: str, value: Any) -> str:
    text = str(value)
    short = text if len(text) <= CAPTION else text[: CAPTION - 3] + "..."
    return f"{name}: {short}"


def _write_table(store: Store, items: Sequence[Item], names: Sequence[str]) -> None:
    axes = list(dict.fromkeys(axis for item in items for axis in item.run.sweep))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "scene", "seed", *axes, *names])
    for item in items:
        values = store.values(item)
        swept = [item.run.sweep.get(axis, "") for axis in axes]
        measured = ["" if values.get(name) is None else values[name] for name in names]
        writer.writerow([item.id, item.run.number, item.seed, *swept, *measured])
    write_file(text.getvalue().encode(), store.folder / TABLE)


def _print_means(store: Store, items: Sequence[Item], names: Sequence[str]) -> None:
    points = {tuple(item.run.sweep.items()).__repr__(): item.run.sweep for item in items}
    made = table("", *names)
    for key, sweep in points.items():
        cells = []
        for name in names:
            here = [item for item in items if tuple(item.run.sweep.items()).__repr__() == key]
            values = [value for item in here if (value := store.values(item).get(name)) is not None]
            cells.append(interval_text(values))
        made.add_row(", ".join(_pair(*pair) for pair in sweep.items()) or "mean", *cells)
    if len(points) <= 50:
        print_table(made)
    out.print(f"Every value is in {store.folder / TABLE}")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and the half width of its 95 % interval, 1.96 standard errors; 0 for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, 1.96 * math.sqrt(variance / len(values))


def interval_text(values: Sequence[float]) -> str:
    """ "0.87 ± 0.05", or a dash when nothing was measured."""
    if not values:
        return "-"
    mean, half = interval(values)
    return f"{mean:.3f} ± {half:.3f}" if len(values) > 1 else f"{mean:.3f}"


def _plot(store: Store, items: Sequence[Item], names: Sequence[str]) -> None:
    try:
        from .plot import plot
    except ImportError:
        errors.print(f"no {PLOT}: it needs matplotlib (pip install 'weft[train]')")
        return
    points = [(item.run.sweep, store.values(item)) for item in items]
    write_image(plot(points, names), store.folder / PLOT)
