"""Finding plugins, models and metrics by name. The names of entry points are known without importing anything."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, TypeVar

from ..errors import PluginError, UserError, did_you_mean
from . import hookspecs
from .metric import Metric
from .plugin import ModelCard, Plugin
from .plugin_loading import SUFFIX, ImportFailure, Offer, checked, load_file, offer_of
from .scheduler_entry import SchedulerEntry

BUILT_IN = "weft"
"""The distribution whose names no other takes, and the package that its entry points lie in."""

ARGUMENTS = {"conditioner": "conditioners", "guidance": "guidance"}
"""Where a kind of plugin is named: an argument of `Pipeline.generate` and a setting of a run file."""


T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """One plugin, model card or metric, and the distribution that brought it."""

    name: str
    distribution: str
    value: Any

    @property
    def kind(self) -> str:
        """``conditioner``, ``guidance``, ``model`` or ``metric``."""
        kinds = {ModelCard: "model", Metric: "metric"}
        return kinds.get(type(self.value)) or str(self.value.kind)


@dataclass(frozen=True)
class Broken:
    """What could not be used of an entry point, and why."""

    name: str
    distribution: str
    problem: str


class Registry:
    """Plugins, models, metrics and schedulers by name; safe to use from several threads.

    A look-up imports the entry points of that name, and the built-ins when there are none. Models and metrics may also
    lie behind an entry point of another name: when nothing has the name, the others are imported too.

    Args:
        points: the entry points to read; the installed ones of the group ``weft`` by default.
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        points_read = entry_points(group=hookspecs.GROUP) if points is None else points
        # an editable install next to a wheel can list a distribution twice. The distributions' own names stand in large
        # files, which are read when one of them is imported
        unique = {(point.name, point.value): point for point in points_read}
        self._points = sorted(unique.values(), key=lambda point: point.name)
        self._pending = list(self._points)
        self._built_in = {point.name for point in self._points if is_built_in(point)}
        self._lock = threading.RLock()
        self._plugins: list[Found] = []
        self._models: list[Found] = []
        self._metrics: list[Found] = []
        self._schedulers: list[Found] = []
        self._broken: list[Broken] = []
        self._files: dict[Path, Offer] = {}
        self.import_seconds: dict[str, float] = {}
        """What importing took, by the names of entry points."""

    @property
    def points(self) -> Sequence[EntryPoint]:
        """Every entry point, by name; nothing is imported."""
        return tuple(self._points)

    def add(self, plugin: type[Plugin], distribution: str = "this process") -> type[Plugin]:
        """Register a class by hand, for notebooks and tests; usable as a decorator."""
        self._plugins.append(Found(checked(plugin).name, distribution, plugin))
        return plugin

    def add_file(self, path: Path) -> Offer:
        """Run a plugin's file and register what it holds, by name and by its path; anew when the file has changed.

        Raises:
            UserError: the file cannot be read.
            PluginError: it does not import, or holds something of a built-in's name.
        """
        place = f"file '{_near(path.resolve())}'"
        with self._lock:
            try:
                offer = offer_of(lambda: load_file(path))
            except ImportFailure as error:
                if isinstance(error.__cause__, UserError):
                    raise error.__cause__ from None
                raise PluginError(path.stem, place, str(error)) from error
            kinds = (self._plugins, self._models, self._metrics, self._schedulers)
            for items in kinds:  # of the file as it was before
                items[:] = [item for item in items if item.distribution != place]
            for refusal in self._enter(offer, place):
                raise PluginError(refusal.name, place, refusal.problem)
            self._files[path.resolve()] = offer
            return offer

    def plugin(self, name: str, kind: str) -> type[Plugin]:
        """The class of this name, or the one of this kind in a plugin's file that `add_file` has run.

        Raises:
            UserError: nothing has the name, or it is of the other kind.
            PluginError: its entry point is broken, or two distributions claim the name.
        """
        if name.endswith(SUFFIX):
            return self._in_file(Path(name), kind)
        claims = self.claims(name)
        if len(claims) > 1:
            raise _contested(claims, "plugin")
        if not claims:
            for broken in self._broken:
                if broken.name == name:
                    raise PluginError(name, f"distribution '{broken.distribution}'", broken.problem)
        if not claims or claims[0].value.kind != kind:
            raise self._no_such_plugin(name, kind, claims)
        plugin: type[Plugin] = claims[0].value
        return plugin

    def claims(self, name: str) -> list[Found]:
        """Every plugin of this name, of which there should be one; imports the entry points of that name."""
        return self._named(self._plugins, name)

    def model(self, name: str, folder: Path = Path()) -> ModelCard | None:
        """The model card of this name, or None.

        Args:
            folder: a path in it is a model too, and no other entry point is asked for its name.

        Raises:
            PluginError: two distributions claim the name.
        """
        elsewhere = "/" in name or (folder / name).exists()
        claims = self._named(self._models, name, everywhere=not elsewhere)
        return _only(claims, ModelCard, "model")

    def metric(self, name: str) -> Metric | None:
        """The metric of this name, or None.

        Raises:
            PluginError: two distributions claim the name.
        """
        claims = self._named(self._metrics, name, everywhere=True)
        return _only(claims, Metric, "metric")

    def scheduler(self, name: str) -> SchedulerEntry | None:
        """The scheduler of this name, from the entry point of that name; None where there is none.

        Raises:
            PluginError: two distributions claim the name.
        """
        claims = self._named(self._schedulers, name)
        return _only(claims, SchedulerEntry, "scheduler")

    def plugins(self) -> list[Found]:
        """Every plugin that is installed; imports them all."""
        self._load(self._points)
        return sorted(self._plugins, key=lambda item: (item.value.kind, item.name))

    def loaded(self) -> list[Found]:
        """What is built in or was asked for, of every kind; imports no more."""
        self._load(self._ours())
        return self._everything()

    def everything(self) -> list[Found]:
        """What is installed, of every kind; imports all."""
        self._load(self._points)
        return self._everything()

    def _everything(self) -> list[Found]:
        return sorted(
            (*self._plugins, *self._models, *self._metrics), key=lambda item: (item.kind, item.name)
        )

    def broken(self) -> list[Broken]:
        """What failed so far."""
        return list(self._broken)

    def models(self) -> dict[str, ModelCard]:
        """Every model card that is installed; imports every entry point."""
        self._load(self._points)
        return {item.name: item.value for item in reversed(self._models)}

    def metrics(self) -> dict[str, Metric]:
        """Every metric that is installed; imports every entry point."""
        self._load(self._points)
        return {item.name: item.value for item in reversed(self._metrics)}

    def schedulers(self) -> dict[str, SchedulerEntry]:
        """Every scheduler that is installed beside Weft's own; imports every entry point."""
        self._load(self._points)
        return {item.name: item.value for item in reversed(self._schedulers)}

    def origin(self, plugin: type[Plugin]) -> str:
        """The distribution of a plugin's class and its version, or the file that it lies in."""
        if plugin.defined_in is not None:
            return f"file {plugin.defined_in.path.name}, SHA-256 {plugin.defined_in.sha256}"
        if plugin.__module__.partition(".")[0] == BUILT_IN:
            return _release(BUILT_IN)
        for item in self._plugins:
            if item.value is plugin:
                return _release(item.distribution)
        return f"no distribution, module {plugin.__module__}"

    def _named(self, items: list[Found], name: str, everywhere: bool = False) -> list[Found]:
        own_name = [point for point in self._points if point.name == name]
        for points in (own_name, self._ours(), self._points if everywhere else []):
            self._load(points)
            if claims := [item for item in items if item.name == name]:
                return claims
        return []

    def _in_file(self, path: Path, kind: str) -> type[Plugin]:
        offer, named = self._files.get(path.resolve()), _near(path)
        if offer is None:
            if not path.is_file():
                raise UserError(kind, "a file of Python", f"no such file: '{named}'")
            hint = f"It is code, which runs with your rights: read it, then allow it with --plugin {named}"
            raise UserError(kind, "an installed plugin, or a file that you allow", f"'{named}'", hint)
        matches = [plugin for plugin in offer.plugins if plugin.kind == kind]
        if len(matches) != 1:
            names = ", ".join(f"{plugin.kind} {plugin.name}" for plugin in offer.plugins) or "none"
            raise UserError(kind, f"a file with one {kind} in it", f"'{named}', which has {names}")
        return matches[0]

    def _no_such_plugin(self, name: str, kind: str, claims: Sequence[Found]) -> UserError:
        known = sorted(item.name for item in self._plugins if item.value.kind == kind)
        came = f"'{name}'" if not claims else f"'{name}', which is a {claims[0].value.kind}"
        if claims:
            hint = f"It belongs in '{ARGUMENTS[claims[0].value.kind]}'."
        else:
            names = {*known, *(point.name for point in self._points)}
            hint = did_you_mean(name, names) or "Others come in packages of their own, installed with pip."
        return UserError(kind, f"an installed {kind} ({', '.join(known) or 'none is installed'})", came, hint)

    def _ours(self) -> list[EntryPoint]:
        return [point for point in self._points if is_built_in(point)]

    def _load(self, points: Iterable[EntryPoint]) -> None:
        with self._lock:
            for point in points:
                if point in self._pending:
                    self._pending.remove(point)
                    self._broken += self._import(point)

    def _import(self, point: EntryPoint) -> list[Broken]:
        ours = is_built_in(point)
        name = BUILT_IN if ours else distribution_name(point)
        if not ours and point.name in self._built_in:
            return [Broken(point.name, name, _taken("plugin", name))]
        start = time.perf_counter()
        try:
            offer = offer_of(point.load)
            self.import_seconds[point.name] = time.perf_counter() - start
        except ImportFailure as error:
            return [Broken(point.name, name, str(error))]
        names = [plugin.name for plugin in offer.plugins]
        if names and point.name not in names:
            problem = f"must carry the name of a plugin it registers ({', '.join(names)})"
            return [Broken(point.name, name, f"entry point '{point.name}' {problem}")]
        return self._enter(offer, name)

    def _enter(self, offer: Offer, distribution: str) -> list[Broken]:
        """Take in what a module offers; what has a built-in's name is left out and reported."""
        plugins = [(plugin.name, plugin) for plugin in offer.plugins]
        refused = []
        for items, what, offered in (
            (self._plugins, "plugin", plugins),
            (self._models, "model", offer.models.items()),
            (self._metrics, "metric", offer.metrics.items()),
            (self._schedulers, "scheduler", offer.schedulers.items()),
        ):
            if distribution != BUILT_IN and offered:
                self._load(self._ours())
            ours = {item.name for item in items if item.distribution == BUILT_IN}
            for name, value in offered:
                if name in ours and distribution != BUILT_IN:
                    refused.append(Broken(name, distribution, _taken(what, distribution)))
                else:
                    items.append(Found(name, distribution, value))
        return refused


@functools.cache
def registry() -> Registry:
    """The registry of this process."""
    return Registry()


@functools.cache
def _release(distribution: str) -> str:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return distribution


def is_built_in(point: EntryPoint) -> bool:
    """Whether an entry point leads into the package `weft`."""
    return point.value.partition(".")[0] == BUILT_IN


def distribution_name(point: EntryPoint) -> str:
    """Of the distribution that brought an entry point."""
    return point.dist.name if point.dist is not None else "unknown distribution"


def _near(path: Path) -> Path:
    """As a user types it: from the folder that the program was started in, where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _only(claims: Sequence[Found], kind: type[T], what: str) -> T | None:
    """The one of a kind that a name stands for, or None.

    Raises:
        PluginError: two distributions claim the name.
    """
    if len(claims) > 1:
        raise _contested(claims, what)
    value: T | None = claims[0].value if claims else None
    return value


def _contested(claims: Sequence[Found], what: str) -> PluginError:
    both = " and by ".join(item.distribution for item in claims)
    return PluginError(claims[0].name, "registration", f"{what} claimed by {both}")


def _taken(what: str, distribution: str) -> str:
    return f"{what} claimed by {BUILT_IN} and by {distribution}: a built-in keeps its name"
