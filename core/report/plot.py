"""Plots of metrics over swept settings. They need matplotlib, which is imported when something is plotted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..errors import UserError
from .entries import Entry, shortened, spread
from .interval import UNBOUNDED, Interval
from .palette import color_of

CURVES = 8
"""More values of the second setting than this are averaged."""
TICK = 24
"""Characters of a swept value on an axis or in a legend."""


@dataclass(frozen=True)
class Curve:
    """Values with their intervals.

    Args:
        label: for the legend; empty for none.
        xs: rising.
        intervals: (low, value, high) at each x.
    """

    label: str
    xs: Sequence[float]
    intervals: Sequence[tuple[float, float, float]]


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
    first, *others = entries[0].swept
    labels = [_label(entry.swept, others) for entry in entries]
    if len(set(labels)) > CURVES:
        labels = [""] * len(entries)
    ticks = None
    xs = [entry.swept[first] for entry in entries]
    if not all(type(x) in (int, float) for x in xs):
        words = [shortened(x, TICK) for x in xs]
        ticks = list(dict.fromkeys(words))
        xs = [ticks.index(word) for word in words]
    panels: dict[str, list[Curve]] = {name: [] for name in names}
    for name in names:
        limits = (bounds or {}).get(name, UNBOUNDED)
        curves: dict[str, dict[float, list[float]]] = {label: {} for label in labels}
        for entry, label, x in zip(entries, labels, xs, strict=True):
            value = entry.measured.get(name)
            if value is not None:
                curves[label].setdefault(float(x), []).append(value)
        for label, values in curves.items():
            rising = sorted(values)
            panels[name].append(Curve(label, rising, [spread(values[x], limits) for x in rising]))
    return draw_panels(panels, first, ticks)


def draw_panels(
    panels: Mapping[str, Sequence[Curve]], axis: str, ticks: Sequence[str] | None = None
) -> Image.Image:
    """Panels side by side, each with its curves and their intervals.

    Args:
        panels: curves by the title above them.
        axis: the label of the x axis.
        ticks: what stands at 0, 1, ... of the x axis; numbers by default.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        hint = "Install it with: pip install 'weft[train]'"
        raise UserError("plot", "the package 'matplotlib'", "none installed", hint) from None
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    for place, (title, curves) in enumerate(panels.items(), 1):
        panel = figure.add_subplot(1, len(panels), place)
        for number, curve in enumerate(curves):
            lows, values, highs = zip(*curve.intervals, strict=True) if curve.intervals else ((), (), ())
            below = [value - low for low, value in zip(lows, values, strict=True)]
            above = [high - value for high, value in zip(highs, values, strict=True)]
            panel.errorbar(
                curve.xs,
                values,
                yerr=[below, above],
                color=color_of(number),
                marker="o",
                markersize=4,
                capsize=3,
                label=curve.label or None,
            )
        if ticks is not None:
            panel.set_xticks(range(len(ticks)), ticks, rotation=20, ha="right")
        panel.set_xlabel(axis)
        panel.set_title(title)
        panel.grid(alpha=0.3)
        if len(curves) > 1:
            panel.legend(fontsize=7)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


def _label(swept: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name}: {shortened(swept[name], TICK)}" for name in names)
