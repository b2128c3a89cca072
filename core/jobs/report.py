"""What is written beside the images of a run file: contact sheets, and a table and a plot of what was measured."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..api.registry import registry
from ..errors import UserError
from ..report.entries import Entry, sheets
from ..report.interval import Interval
from ..report.plot import plot
from ..scene.image_formats import open_written
from ..storage.atomic import write_file, write_image
from .job import Item
from .output_folder import Store

SHEET = "sheet"
TABLE = "metrics.csv"
PLOT = "metrics"


def entries_of(store: Store, items: Sequence[Item]) -> list[Entry]:
    """The images of a folder with what was measured of them.

    Raises:
        UserError: an item's image is not there.
    """
    entries = []
    for item in items:
        path = store.path(item)
        if path is None:
            raise UserError(f"item {item.number}", "an image", "none")
        run, image = item.run, functools.partial(_opened, path)
        entries.append(Entry(run.number, run.scene.prompt, item.seed, run.sweep, image, store.values(item)))
    return entries


def metric_names(items: Sequence[Item]) -> list[str]:
    """The metrics that some of the items ask for."""
    return list(dict.fromkeys(name for item in items for name in item.run.metrics))


def metric_bounds(names: Sequence[str]) -> dict[str, Interval]:
    """Between what the values of installed metrics lie."""
    metrics = {name: registry().metric(name) for name in names}
    return {name: metric.bounds for name, metric in metrics.items() if metric is not None}


def write_sheets(folder: Path, entries: Sequence[Entry]) -> None:
    """Write the sheets of at least two images."""
    if len(entries) > 1:
        for number, image in enumerate(sheets(entries), 1):
            write_image(image, folder, SHEET if number == 1 else f"{SHEET}-{number}")


def write_table(folder: Path, items: Sequence[Item], entries: Sequence[Entry]) -> Path:
    """Write every value that was measured, a row for each item."""
    names = metric_names(items)
    axes = list(dict.fromkeys(axis for entry in entries for axis in entry.swept))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "scene", "seed", *axes, *names])
    for item, entry in zip(items, entries, strict=True):
        swept = [entry.swept.get(axis, "") for axis in axes]
        measured = ["" if entry.measured.get(name) is None else entry.measured[name] for name in names]
        writer.writerow([item.id, entry.scene, entry.seed, *swept, *measured])
    return write_file(text.getvalue().encode(), folder / TABLE)


def write_plot(folder: Path, items: Sequence[Item], entries: Sequence[Entry]) -> None:
    """Write the plot of the metrics of a sweep.

    Raises:
        UserError: matplotlib is not installed.
    """
    if any(entry.swept for entry in entries):
        names = metric_names(items)
        write_image(plot(entries, names, metric_bounds(names)), folder, PLOT)


def _opened(path: Path) -> Image.Image:
    with open_written(path) as image:
        return image.convert("RGB")
