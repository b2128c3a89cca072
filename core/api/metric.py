"""Metrics: what can be measured of an image. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from ..errors import PluginError, WeftError
from ..scene.reading import SceneFields
from ..scene.scene import Scene

Measure = Callable[[Image.Image, Scene], float | None]
"""An image and the scene it was drawn for, to a number; None when the scene does not ask for what is measured."""


@dataclass(frozen=True)
class Metric:
    """A named measurement.

    Args:
        summary: one line, with the range of its values.
        measure: imports what it needs when it is called, so that listing metrics stays light.
        bounds: what a value can be at least and at most; no interval of means goes beyond.
        scene_fields: what of a scene it reads, as `Plugin.scene_fields`.
    """

    summary: str
    measure: Measure
    bounds: tuple[float, float] = (-math.inf, math.inf)
    scene_fields: SceneFields | None = None


def measured(name: str, measure: Measure, image: Image.Image, scene: Scene, seed: int) -> float | None:
    """What a metric says of an image.

    Raises:
        PluginError: it failed; the message names it and the seed.
    """
    try:
        return measure(image, scene)
    except WeftError:
        raise
    except Exception as error:  # untrusted code
        problem = f"{type(error).__name__}: {error}"
        raise PluginError(name, f"measuring the image of seed {seed}", problem) from error
