"""A plot of metrics over the swept settings. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from .report import interval

LINES = 8
"""More values of the second setting than this are averaged."""

Point = tuple[Mapping[str, Any], Mapping[str, float | None]]


def plot(points: Sequence[Point], names: Sequence[str]) -> Image.Image:
    """A panel for each metric: mean and 95 % interval over the first swept setting, a line for each of the others.

    Args:
        points: (swept values, measured values) of every picture.
        names: of the metrics.
    """
    axes = list(points[0][0])
    first, others = axes[0], axes[1:]
    labels = [_label(swept, others) for swept, _ in points]
    lines = list(dict.fromkeys(labels))
    if len(lines) > LINES:
        labels, lines = [""] * len(points), [""]
    ticks = list(dict.fromkeys(_tick(swept[first]) for swept, _ in points))
    numbers = all(type(swept[first]) in (int, float) for swept, _ in points)
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    for place, name in enumerate(names, 1):
        panel = figure.add_subplot(1, len(names), place)
        for line in lines:
            values: dict[float, list[float]] = {}
            for (swept, measured), label in zip(points, labels, strict=True):
                value = measured.get(name)
                if label == line and value is not None:
                    at = float(swept[first]) if numbers else float(ticks.index(_tick(swept[first])))
                    values.setdefault(at, []).append(value)
            across = sorted(values)
            found = [interval(values[at]) for at in across]
            panel.errorbar(
                across,
                [mean for mean, _ in found],
                yerr=[half for _, half in found],
                marker="o",
                markersize=4,
                capsize=3,
                label=line or None,
            )
        if not numbers:
            panel.set_xticks(range(len(ticks)), ticks, rotation=20, ha="right")
        panel.set_xlabel(first)
        panel.set_title(name)
        panel.grid(alpha=0.3)
        if len(lines) > 1:
            panel.legend(fontsize=7)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


def _label(swept: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name}: {_tick(swept[name])}" for name in names)


def _tick(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:21] + "..."
