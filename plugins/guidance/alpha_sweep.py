"""The same pictures at several alphas of `fusing`, with what metrics say of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image

from ...core.chart import Line, chart, contact_sheet
from ...core.errors import UserError
from .fusing import Fusing

if TYPE_CHECKING:
    from ...core.api.conditioner import Conditioner
    from ...core.api.guidance import Guidance
    from ...core.pipeline import Pipeline
    from ...core.result import Result
    from ...core.scene import Scene

ALPHAS = tuple(round(0.1 * i, 1) for i in range(11))

Metric: TypeAlias = Callable[[Image.Image], float]
"""A number for a picture."""


@dataclass(frozen=True)
class AlphaSweep:
    """Pictures and metrics by alpha.

    Args:
        alphas: in rising order.
        results: one for each alpha; an image of one number has the same scene and the same noise in all of them.
        metrics: by name, for each alpha the value of every image.
    """

    alphas: tuple[float, ...]
    results: tuple[Result, ...]
    metrics: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)

    def means(self, metric: str) -> tuple[float, ...]:
        """The mean over the images, for each alpha."""
        return tuple(sum(values) / len(values) for values in self.metrics[metric])

    def sheet(self) -> Image.Image:
        """A contact sheet: a row for each image, a column for each alpha."""
        rows = list(zip(*(result.images for result in self.results), strict=True))
        scenes = {id(sample.scene) for sample in self.results[0].samples}
        labels = [
            f"{self._scene(number)}seed {sample.seed}" if len(scenes) > 1 else f"seed {sample.seed}"
            for number, sample in enumerate(self.results[0].samples)
        ]
        return contact_sheet(rows, [f"alpha {alpha:g}" for alpha in self.alphas], labels)

    def plot(self) -> Image.Image:
        """A panel for each metric: its mean over the images, and in a shade the lowest and the highest of them.

        Raises:
            UserError: the sweep was made without metrics, or of a single alpha.
        """
        if not self.metrics or len(self.alphas) < 2:
            found = f"{len(self.metrics)} metrics, {len(self.alphas)} alphas"
            raise UserError("AlphaSweep.plot", "a metric and at least two alphas", found)
        panels = [
            chart(self.alphas, [Line(name, self.means(name), [(min(v), max(v)) for v in values])], "alpha")
            for name, values in self.metrics.items()
        ]
        page = Image.new("RGB", (panels[0].width, sum(panel.height for panel in panels)), "white")
        for number, panel in enumerate(panels):
            page.paste(panel, (0, number * panel.height))
        return page

    def _scene(self, number: int) -> str:
        seen = list(dict.fromkeys(id(sample.scene) for sample in self.results[0].samples))
        return f"scene {seen.index(id(self.results[0].samples[number].scene)) + 1}, "


def alpha_sweep(
    pipeline: Pipeline,
    scene: Scene | Sequence[Scene],
    conditioners: Sequence[str | Conditioner] = ("pseudo_word",),
    *,
    alphas: Sequence[float] = ALPHAS,
    metrics: Mapping[str, Metric] | None = None,
    fusing: Fusing | None = None,
    guidance: Sequence[str | Guidance] = ("classifier_free",),
    **options: Any,
) -> AlphaSweep:
    """Draw a scene at several alphas from the same noise.

    Args:
        pipeline: the model.
        scene: one scene, or several.
        conditioners: as in `Pipeline.generate`.
        alphas: each in [0, 1].
        metrics: functions of a picture, by name, for `AlphaSweep.plot`.
        fusing: whose other fields are used; `Fusing()` by default.
        guidance: the chain after it.
        options: of `Pipeline.generate`: seeds, steps and the rest.

    Raises:
        UserError: an alpha is out of range, or there is none; or from `Pipeline.generate`.
    """
    if not alphas:
        raise UserError("alpha_sweep, field 'alphas'", "at least one", "none")
    base = fusing or Fusing()
    # all are made before the first is drawn, so that a wrong alpha is an error at once
    chains = {alpha: [dataclasses.replace(base, alpha=alpha), *guidance] for alpha in sorted(set(alphas))}
    results = [pipeline.generate(scene, conditioners, chain, **options) for chain in chains.values()]
    values = {
        name: tuple(tuple(float(metric(image)) for image in result.images) for result in results)
        for name, metric in (metrics or {}).items()
    }
    return AlphaSweep(tuple(chains), tuple(results), values)
