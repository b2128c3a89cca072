"""{{ about }}"""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageStat
from weft import plugin


def brightness(image: Image.Image, scene: plugin.Scene) -> float | None:
    """The mean of an image's grey values, from 0 (black) to 1 (white)."""
    return ImageStat.Stat(image.convert("L")).mean[0] / 255.0


@plugin.hookimpl
def weft_metrics() -> Mapping[str, plugin.Metric]:
    summary = "Mean brightness, from 0 to 1."
    return {"{{ name }}": plugin.Metric(summary, brightness, (0.0, 1.0), frozenset())}
