"""Running the code of one plugin, a module or a file, so that whatever it does at import is an error of its own."""

from __future__ import annotations

import copyreg
import hashlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_loader
from itertools import chain
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pluggy

from ..errors import UserError
from ..scene.reading import check_scene_fields
from . import hookspecs
from .metric import Metric
from .plugin import ModelCard, Plugin, PluginFile
from .scheduler_entry import SchedulerEntry

SUFFIX = ".py"
"""Of a plugin that is named by the path of its file."""


class ImportFailure(Exception):
    """What a plugin raised when it was imported, or what it registers in place of plugins."""


@dataclass(frozen=True)
class Offer:
    """What one module registers through the hooks."""

    plugins: tuple[type[Plugin], ...]
    models: Mapping[str, ModelCard]
    metrics: Mapping[str, Metric]
    schedulers: Mapping[str, SchedulerEntry]


def offer_of(load: Callable[[], Any]) -> Offer:
    """Import a module and call its hooks.

    Args:
        load: imports the module and returns it.

    Raises:
        ImportFailure: whatever it raises, `SystemExit` included, and what is no plugin. What it prints goes to stderr.
    """
    with contained():
        manager = pluggy.PluginManager(hookspecs.GROUP)
        manager.add_hookspecs(hookspecs)
        manager.register(load())
        manager.check_pending()
        hooks = manager.hook
        return Offer(
            tuple(checked(one) for one in chain.from_iterable(hooks.weft_plugins())),
            dict(chain.from_iterable(cards.items() for cards in hooks.weft_models())),
            dict(chain.from_iterable(metrics.items() for metrics in hooks.weft_metrics())),
            dict(chain.from_iterable(entries.items() for entries in hooks.weft_schedulers())),
        )


def load_file(path: Path) -> ModuleType:
    """Run a plugin's file as a module of its own, once as long as the file stays as it is.

    Its classes say where they come from (`Plugin.defined_in`).

    Raises:
        UserError: the file cannot be read.
    """
    try:
        source = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise UserError(f"plugin '{path}'", "a file of Python that can be read", reason) from None
    file = PluginFile(path.resolve(), hashlib.sha256(source).hexdigest())
    # the digest of the path too: equal files in two places are two modules
    place = hashlib.sha256(str(file.path).encode()).hexdigest()
    name = f"weft_plugin_file_{path.stem}_{place[:8]}_{file.sha256[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_loader(name, loader=None, origin=str(file.path))
    assert spec is not None
    module = module_from_spec(spec)
    module.__file__ = str(file.path)
    sys.modules[name] = module
    try:
        exec(compile(source, str(file.path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == name:
            value.defined_in = file
            copyreg.pickle(value, _by_its_file)
    return module


def _by_its_file(plugin: Any) -> tuple[Any, ...]:
    """How such a plugin is copied, and sent to a process that has not run its file."""
    file = type(plugin).defined_in
    return _remade, (file, type(plugin).__qualname__, dict(vars(plugin)))


def _remade(file: PluginFile, name: str, fields: Mapping[str, Any]) -> Plugin:
    module = load_file(file.path)
    plugin = object.__new__(getattr(module, name))
    if plugin.defined_in != file:
        raise UserError(f"plugin '{file.path}'", f"SHA-256 {file.sha256[:12]}...", "a file that has changed")
    vars(plugin).update(fields)
    return plugin  # type: ignore[no-any-return]


def checked(plugin: Any) -> type[Plugin]:
    """The plugin's class.

    Raises:
        TypeError: it is none, or does not declare what a plugin has to.
    """
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


@contextmanager
def contained() -> Iterator[None]:
    """Make whatever untrusted code raises an `ImportFailure`; what it prints goes to stderr.

    Raises:
        ImportFailure: for any exception, `SystemExit` included, but Ctrl-C.
    """
    with redirect_stdout(sys.stderr), _key_presses() as pressed:
        try:
            yield
        except BaseException as error:  # SystemExit and its like too: untrusted code ends no command
            if pressed:
                raise
            raise ImportFailure(f"{type(error).__name__}: {error}") from error


@contextmanager
def _key_presses() -> Iterator[list[int]]:
    """Interrupts that came from outside; a KeyboardInterrupt without one is the plugin's own."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return

    def note(number: int, frame: FrameType | None) -> Any:
        pressed.append(number)
        return before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
