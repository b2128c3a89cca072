"""A metric for Weft: how colourful an image is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image
from weft import plugin

LARGEST = 2.0
"""More than any image has: the opponent channels lie in [-1, 1], so spread and offset are at most sqrt(2)."""


def colourfulness(image: Image.Image, scene: plugin.Scene) -> float | None:
    """The M(3) of Hasler and Suesstrunk 2003, "Measuring colourfulness in natural images", section 5.

    Returns:
        0 for a grey image; about 0.4 is highly colourful (their 109, of colours up to 255).
    """
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.float64) / 255.0, -1, 0)
    opponents = np.stack([red - green, 0.5 * (red + green) - blue]).reshape(2, -1)
    spread, offset = np.hypot(*opponents.std(axis=1)), np.hypot(*opponents.mean(axis=1))
    return float(spread + 0.3 * offset)


@plugin.hookimpl
def weft_metrics() -> Mapping[str, plugin.Metric]:
    summary = "Colourfulness of Hasler and Suesstrunk, from 0 (grey) up; 0.4 is highly colourful."
    return {"colourfulness": plugin.Metric(summary, colourfulness, (0.0, LARGEST), frozenset())}
