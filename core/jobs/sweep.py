"""A sweep in Python: the same images at every combination of the values of some settings, and what metrics say."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ..api.conditioner import Conditioner
from ..api.guidance import DEFAULT_GUIDANCE, Guidance
from ..api.metric import Measure, Metric, measured
from ..api.registry import registry
from ..api.sampler_settings import SamplerSettings
from ..errors import UserError, did_you_mean
from ..pipeline import Pipeline
from ..report.entries import Entry, lines, spread
from ..report.interval import UNBOUNDED, Interval
from ..report.plot import plot
from ..report.sheet import Row, sheet
from ..result import Result
from ..runfile.settings_tree import split_path
from ..runfile.sweep import MAX_VARIANTS
from ..scene.fields import Keys
from ..scene.reading import without_warnings
from ..scene.scene import Scene


@dataclass(frozen=True)
class Sweep:
    """Images and measurements by the point of a sweep.

    Args:
        points: the swept settings and their values, the last setting running fastest.
        results: one for each point; images of one number have the same scene and the same starting noise.
        metrics: by name, for each point the value of every image; None where the scene does not ask for it.
        bounds: of the metrics' values, by name; those without may take any.
    """

    points: tuple[Mapping[str, Any], ...]
    results: tuple[Result, ...]
    metrics: Mapping[str, tuple[tuple[float | None, ...], ...]]
    bounds: Mapping[str, Interval] = field(default_factory=dict)

    def __repr__(self) -> str:
        settings = ", ".join(self.points[0]) if self.points else "none"
        return (
            f"<Sweep of {settings}: {len(self.points)} points, metrics {', '.join(self.metrics) or 'none'}>"
        )

    def entries(self) -> list[Entry]:
        """Every image with its point, its seed and what was measured of it."""
        entries = []
        for number, (swept, result) in enumerate(zip(self.points, self.results, strict=True)):
            seeds = len({sample.seed for sample in result.samples})
            for place, (image, sample) in enumerate(zip(result.images, result.samples, strict=True)):
                values = {name: points[number][place] for name, points in self.metrics.items()}
                entries.append(
                    Entry(place // seeds, sample.scene.prompt, sample.seed, swept, image.copy, values)
                )
        return entries

    def means(self, metric: str) -> tuple[tuple[float, float, float] | None, ...]:
        """(low, mean, high) of the mean's 95 % interval over each point's images; None where nothing is measured."""
        known = ([value for value in values if value is not None] for values in self.metrics[metric])
        bounds = self.bounds.get(metric, UNBOUNDED)
        return tuple(spread(values, bounds) if values else None for values in known)

    def sheet(self) -> Image.Image:
        """A row for each scene and point with its seeds along it; with one seed, the values of the last setting."""
        rows = lines(self.entries())
        return sheet([Row(row.label, [one.open() for one in row.entries], row.captions) for row in rows])

    def plot(self) -> Image.Image:
        """A panel for each metric: mean and 95 % interval over the first setting, a line for each of the others.

        Raises:
            UserError: the sweep was made without metrics, or matplotlib is not installed.
        """
        if not self.metrics:
            raise UserError("Sweep.plot", "a sweep with metrics", "one without")
        return plot(self.entries(), list(self.metrics), self.bounds)


def sweep(
    pipeline: Pipeline,
    scene: Scene | Sequence[Scene],
    settings: Mapping[str, Sequence[Any]],
    *,
    conditioners: Sequence[str | Conditioner] = (),
    guidance: Sequence[str | Guidance] = DEFAULT_GUIDANCE,
    metrics: Sequence[str] | Mapping[str, Measure] = (),
    **options: Any,
) -> Sweep:
    """Draw scenes at every combination of the values of some settings, each time from the same noise.

    Args:
        pipeline: the model.
        scene: one scene, or several.
        settings: values by path, as under ``sweep`` in a run file: ``{"guidance.0.alpha": [0, 0.5, 1]}``. A path leads
            into ``conditioners``, ``guidance``, ``sampler``, ``reproducibility`` or a field of the scene.
        conditioners: as in `Pipeline.generate`.
        guidance: as in `Pipeline.generate`.
        metrics: names of installed metrics, or functions of an image and its scene by names of your own.
        options: of `Pipeline.generate`: seeds, steps and the rest.

    Raises:
        UserError: a path leads nowhere, a value is out of range (both before anything is drawn), a metric is not
            installed; or from `Pipeline.generate`.
        PluginError: a metric failed; or from `Pipeline.generate`.
    """
    chosen = _metrics(metrics)
    names = [one.name for one in dataclasses.fields(SamplerSettings)]
    base = _Point(
        scenes=(scene,) if isinstance(scene, Scene) else tuple(scene),
        conditioners=_plugins(conditioners, "conditioner"),
        guidance=_plugins(guidance, "guidance"),
        sampler=SamplerSettings(**{name: options.pop(name) for name in names if name in options}),
        reproducibility=options.pop("reproducibility", "normal"),
    )
    points = _points(settings)
    variants = [base.at(point) for point in points]  # all of them before the first is drawn
    results = tuple(variant.draw(pipeline, options) for variant in variants)
    values = {
        name: tuple(tuple(_measured(name, metric, result)) for result in results)
        for name, metric in chosen.items()
    }
    bounds = {name: metric.bounds for name, metric in chosen.items()}
    return Sweep(tuple(points), results, values, bounds)


@dataclass(frozen=True)
class _Point:
    """What `Pipeline.generate` is called with at a point of a sweep."""

    scenes: tuple[Scene, ...]
    conditioners: Sequence[Any]
    guidance: Sequence[Any]
    sampler: SamplerSettings
    reproducibility: Any

    def at(self, values: Mapping[str, Any]) -> _Point:
        """The same with the values of some settings."""
        changes = {split_path(path): value for path, value in values.items()}
        of_scene = {keys: value for keys, value in changes.items() if keys[0] in _SCENE}
        rest = {keys: value for keys, value in changes.items() if keys not in of_scene}
        scenes = tuple(_changed(scene, of_scene) for scene in self.scenes)
        changed: _Point = _changed(dataclasses.replace(self, scenes=scenes), rest)
        return changed

    def draw(self, pipeline: Pipeline, options: Mapping[str, Any]) -> Result:
        # what one point leaves unread, another or a metric may read
        with without_warnings():
            return pipeline.generate(
                self.scenes,
                self.conditioners,
                self.guidance,
                **self.sampler.options(),
                reproducibility=self.reproducibility,
                **options,
            )


_SCENE = {one.name for one in dataclasses.fields(Scene)}


def _points(settings: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    if not settings:
        raise UserError("sweep", "a mapping such as {'sampler.steps': [20, 50]}", "an empty one")
    for path, values in settings.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"sweep, '{path}'", "a list of values", repr(values))
    count = math.prod(len(values) for values in settings.values())
    if count > MAX_VARIANTS:
        raise UserError("sweep", f"at most {MAX_VARIANTS} combinations", str(count), "Take fewer values.")
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]


def _changed(value: Any, changes: Mapping[Keys, Any], path: Keys = ()) -> Any:
    """A record, mapping or sequence with other values at some keys, put in together, as they may need each other."""
    value = changes.get((), value)
    below: dict[str | int, dict[Keys, Any]] = {}
    for keys, new in changes.items():
        if keys:
            below.setdefault(keys[0], {})[keys[1:]] = new
    children = _children(value)
    parts = {}
    for key, inner in below.items():
        if key not in children:
            place = ".".join(map(str, (*path, key)))
            known = ", ".join(map(str, children)) or "nothing below it"
            hint = did_you_mean(str(key), map(str, children))
            raise UserError(
                f"sweep, '{place}'", f"the path of a setting ({known})", "one that leads nowhere", hint
            )
        parts[key] = _changed(children[key], inner, (*path, key))
    if not parts:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{str(key): part for key, part in parts.items()})
    return {**value, **parts} if isinstance(value, Mapping) else tuple((children | parts).values())


def _children(value: Any) -> dict[str | int, Any]:
    """What a path can lead to from here."""
    if dataclasses.is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init}
    if isinstance(value, Mapping):
        return dict(value)
    return dict(enumerate(value)) if isinstance(value, (tuple, list)) else {}


def _plugins(items: Sequence[Any], kind: str) -> tuple[Any, ...]:
    return tuple(registry().plugin(item, kind)() if isinstance(item, str) else item for item in items)


def _metrics(metrics: Sequence[str] | Mapping[str, Measure]) -> dict[str, Metric]:
    if isinstance(metrics, Mapping):
        return {name: Metric("", measure) for name, measure in metrics.items()}
    chosen: dict[str, Metric] = {}
    for name in metrics:
        metric = registry().metric(name)
        if metric is None:
            installed = registry().metrics()
            known = ", ".join(sorted(installed)) or "none is installed"
            hint = did_you_mean(name, installed)
            raise UserError("sweep, field 'metrics'", f"an installed metric ({known})", f"'{name}'", hint)
        chosen[name] = metric
    return chosen


def _measured(name: str, metric: Metric, result: Result) -> list[float | None]:
    return [
        measured(name, metric.measure, image, sample.scene, sample.seed)
        for image, sample in zip(result.images, result.samples, strict=True)
    ]
