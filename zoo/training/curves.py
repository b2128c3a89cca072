"""The curves of a run as one picture, for the model card."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

PANELS = {
    "vae": ("psnr", "color"),
    "clip": ("contrast", "altered_accuracy", "color_accuracy"),
    "unet": ("min_snr", "localization"),
}
"""What is drawn of each stage."""


def smooth(values: list[float], decay: float = 0.6) -> list[float]:
    """Exponential running mean."""
    mean, found = values[0], []
    for value in values:
        mean = decay * mean + (1 - decay) * value
        found.append(mean)
    return found


def draw(run: Path, file: Path) -> None:
    """Draw the curves.jsonl of every stage in ``run`` to ``file``."""
    names = [(stage, name) for stage, several in PANELS.items() for name in several]
    figure, axes = pyplot.subplots(2, (len(names) + 1) // 2, figsize=(11, 4.4), constrained_layout=True)
    for axis, (stage, name) in zip(axes.flat, names, strict=False):
        path = run / stage / "curves.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        lines = [line for line in lines if name in line]
        if lines:
            axis.plot([line["step"] for line in lines], smooth([line[name] for line in lines]), linewidth=1)
        axis.set_title(f"{stage}: {name.replace('_', ' ')}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(names) :]:
        axis.axis("off")
    figure.savefig(file, dpi=90)
    pyplot.close(figure)
