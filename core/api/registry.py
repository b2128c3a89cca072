"""Finding plugins, models and metrics: entry points, loaded one by one, so that a broken one never stops the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from ..errors import PluginError, UserError, did_you_mean
from ..scene.reading import check_scene_fields
from . import hookspecs
from .metric import Metric
from .plugin import ModelCard, Plugin

BUILT_IN = "weft"
"""The distribution whose entry points every run may use without being asked."""

ARGUMENTS = {"conditioner": "conditioners", "guidance": "guidance"}
"""Where a kind of plugin is named: an argument of `Pipeline.generate` and a setting of a run file."""


@dataclass(frozen=True)
class Found:
    """One plugin, model card or metric, and the distribution that brought it."""

    name: str
    distribution: str
    value: Any


@dataclass(frozen=True)
class Broken:
    """An entry point that could not be used, and why."""

    name: str
    distribution: str
    problem: str


class Registry:
    """Plugins and models by name.

    Args:
        points: the entry points to read; the installed ones of the group ``weft`` by default.
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        points_read = entry_points(group=hookspecs.GROUP) if points is None else points
        # an editable install next to a wheel can list a distribution twice
        # and a distribution's name is read from its files, once
        named = {(p.name, p.value, _distribution(p)): p for p in points_read}
        self._points = sorted(((p, key[2]) for key, p in named.items()), key=lambda pair: pair[0].name)
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._loaded: set[tuple[str, str]] = set()
        self._plugins: list[Found] = []
        self._models: list[Found] = []
        self._metrics: list[Found] = []
        self._broken: list[Broken] = []

    def add(self, plugin: type[Plugin], distribution: str = "this process") -> type[Plugin]:
        """Register a class by hand, for notebooks and tests; usable as a decorator."""
        _check(plugin)
        self._plugins.append(Found(plugin.name, distribution, plugin))
        return plugin

    def plugin(self, name: str, kind: str) -> type[Plugin]:
        """The class of this name; loads built-ins and the entry point of that name, no others.

        Raises:
            UserError: nothing has the name, or it is of the other kind.
            PluginError: its entry point is broken, or two distributions claim the name.
        """
        self._load(lambda point, distribution: point.name == name or distribution == BUILT_IN)
        claims = [item for item in self._plugins if item.name == name]
        if len(claims) > 1:
            raise PluginError(
                name, "registration", f"claimed by {' and by '.join(item.distribution for item in claims)}"
            )
        for broken in self._broken:
            if broken.name == name and not claims:
                raise PluginError(name, f"distribution '{broken.distribution}'", broken.problem)
        known = [item.name for item in self._plugins if item.value.kind == kind]
        if not claims or claims[0].value.kind != kind:
            came = f"'{name}'" if not claims else f"'{name}', which is a {claims[0].value.kind}"
            installed = ", ".join(sorted(known)) or "none is installed"
            if claims:
                hint = f"It belongs in '{ARGUMENTS[claims[0].value.kind]}'."
            else:
                hint = (
                    did_you_mean(name, known) or "Others come in packages of their own, installed with pip."
                )
            raise UserError(kind, f"an installed {kind} ({installed})", came, hint)
        plugin: type[Plugin] = claims[0].value
        return plugin

    def plugins(self) -> list[Found]:
        """Every plugin that is installed; loads them all."""
        self._load(lambda point, distribution: True)
        return sorted(self._plugins, key=lambda item: (item.value.kind, item.name))

    def broken(self) -> list[Broken]:
        """Entry points that failed so far."""
        return list(self._broken)

    def models(self) -> dict[str, ModelCard]:
        """Every model card that is installed; loads every entry point.

        Raises:
            PluginError: two distributions claim one name.
        """
        self._load(lambda point, distribution: True)
        return _unique(self._models, "model")

    def metrics(self) -> dict[str, Metric]:
        """Every metric that is installed; loads every entry point.

        Raises:
            PluginError: two distributions claim one name.
        """
        self._load(lambda point, distribution: True)
        return _unique(self._metrics, "metric")

    def _load(self, wanted: Callable[[EntryPoint, str], bool]) -> None:
        for point, distribution in self._points:
            key = (point.name, distribution)
            if key not in self._loaded and wanted(point, distribution):
                self._loaded.add(key)
                try:
                    self._enter(point)
                except Exception as error:  # whatever untrusted module raises is a report, never a crash
                    self._broken.append(
                        Broken(point.name, _distribution(point), f"{type(error).__name__}: {error}")
                    )

    def _enter(self, point: EntryPoint) -> None:
        module = point.load()
        label = f"{_distribution(point)}:{point.name}"
        self._manager.register(module, name=label)
        try:
            self._manager.check_pending()
            plugins = [_check(cls) for cls in _results(self._manager.hook.weft_plugins, label)]
            models: Mapping[str, ModelCard] = _results(self._manager.hook.weft_models, label)
            metrics: Mapping[str, Metric] = _results(self._manager.hook.weft_metrics, label)
        except BaseException:
            self._manager.unregister(name=label)
            raise
        if plugins and point.name not in [cls.name for cls in plugins]:
            names = ", ".join(cls.name for cls in plugins)
            raise ValueError(
                f"entry point '{point.name}' must carry the name of a plugin it registers ({names})"
            )
        self._plugins += [Found(cls.name, _distribution(point), cls) for cls in plugins]
        self._models += [Found(name, _distribution(point), card) for name, card in models.items()]
        self._metrics += [Found(name, _distribution(point), metric) for name, metric in metrics.items()]


@functools.cache
def registry() -> Registry:
    """The registry of this process."""
    return Registry()


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown distribution"


def _unique(items: Iterable[Found], kind: str) -> dict[str, Any]:
    chosen: dict[str, Found] = {}
    for item in items:
        if item.name in chosen:
            both = f"{chosen[item.name].distribution} and by {item.distribution}"
            raise PluginError(item.name, "registration", f"{kind} claimed by {both}")
        chosen[item.name] = item
    return {name: item.value for name, item in chosen.items()}


def _results(hook: Any, label: str) -> Any:
    for implementation in hook.get_hookimpls():
        if implementation.plugin_name == label:
            return implementation.function() or {}
    return {}


def _check(plugin: Any) -> type[Plugin]:
    if not (isinstance(plugin, type) and issubclass(plugin, Plugin)):
        raise TypeError(f"{plugin!r} is not a subclass of weft.Conditioner or weft.Guidance")
    for attribute in ("name", "kind"):
        if not isinstance(getattr(plugin, attribute, None), str):
            raise TypeError(f"{plugin.__name__} does not set '{attribute}'")
    if not isinstance(getattr(plugin, "neutral", None), Mapping):
        raise TypeError(
            f"{plugin.__name__} does not set 'neutral', the parameters at which it changes nothing"
        )
    if "__init__" not in vars(plugin):
        raise TypeError(f"{plugin.__name__} is not decorated with @weft.record")
    try:
        check_scene_fields(plugin.scene_fields or ())
    except UserError as error:
        raise TypeError(f"{plugin.__name__}, {error}") from None
    return plugin
