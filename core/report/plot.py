"""A plot of metrics over the swept settings. Needs matplotlib, which is imported when something is plotted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import UserError
from .entries import Entry, shortened
from .palette import color_of
from .statistics import UNBOUNDED, Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 8
"""More values of the second setting than this are averaged."""
TICK = 24
"""Characters of a swept value on an axis or in a legend."""


def plot(
    entries: Sequence[Entry], names: Sequence[str], bounds: Mapping[str, Interval] | None = None
) -> Image.Image:
    """A panel for each metric: mean and 95 % interval over the first swept setting, a line for each of the others.

    Args:
        entries: of a sweep.
        names: of the metrics.
        bounds: of their values, by name; those without may take any.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        hint = "Install it with: pip install 'weft[train]'"
        raise UserError("plot of metrics", "the package 'matplotlib'", "none installed", hint) from None
    first, *others = entries[0].swept
    labels = [_label(entry.swept, others) for entry in entries]
    if len(set(labels)) > LINES:
        labels = [""] * len(entries)
    curves: dict[str, list[Entry]] = {}
    for entry, label in zip(entries, labels, strict=True):
        curves.setdefault(label, []).append(entry)
    words = None
    if not all(type(entry.swept[first]) in (int, float) for entry in entries):
        words = list(dict.fromkeys(shortened(entry.swept[first], TICK) for entry in entries))
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    for place, name in enumerate(names, 1):
        panel = figure.add_subplot(1, len(names), place)
        for number, (label, members) in enumerate(curves.items()):
            limits = (bounds or {}).get(name, UNBOUNDED)
            _draw(panel, members, name, first, words, color_of(number), label, limits)
        if words is not None:
            panel.set_xticks(range(len(words)), words, rotation=20, ha="right")
        panel.set_xlabel(first)
        panel.set_title(name)
        panel.grid(alpha=0.3)
        if len(curves) > 1:
            panel.legend(fontsize=7)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


def _draw(
    panel: Axes,
    entries: Sequence[Entry],
    name: str,
    axis: str,
    words: list[str] | None,
    color: str,
    label: str,
    bounds: Interval,
) -> None:
    """One curve; over words, which are counted, when there are any."""
    values: dict[float, list[float]] = {}
    for entry in entries:
        measured = entry.measured.get(name)
        if measured is not None:
            value = entry.swept[axis]
            x = float(value) if words is None else float(words.index(shortened(value, TICK)))
            values.setdefault(x, []).append(measured)
    xs = sorted(values)
    panel.errorbar(
        xs,
        [fmean(values[x]) for x in xs],
        yerr=list(zip(*(_arms(values[x], bounds) for x in xs), strict=True)),
        color=color,
        marker="o",
        markersize=4,
        capsize=3,
        label=label or None,
    )


def _arms(values: Sequence[float], bounds: Interval) -> Interval:
    """How far the interval goes below and above the mean; nothing for one value, which shows no spread."""
    if len(values) < 2:
        return 0.0, 0.0
    mean, (low, high) = fmean(values), mean_interval(values, bounds)
    # a value beyond its metric's bounds may leave the mean outside
    return max(0.0, mean - low), max(0.0, high - mean)


def _label(swept: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name}: {shortened(swept[name], TICK)}" for name in names)
