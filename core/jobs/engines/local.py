"""The engine that needs nothing: this process, one group of equal settings after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...pipeline import Pipeline
from ..batch_runner import Drawer
from ..batch_size import Memory
from ..events import Listener
from ..job import Item
from . import Engine, EngineSettings, groups


class LocalEngine(Engine):
    """Draws in this process. Arguments as of `Drawer`."""

    def __init__(self, loader: Callable[[str], Pipeline] | None = None, memory: Memory | None = None) -> None:
        self._drawer = Drawer(loader, memory)

    def draw(self, items: Sequence[Item], listener: Listener) -> None:
        for group in groups(items):
            self._drawer.draw(group, listener)


def engine(settings: EngineSettings) -> Engine:
    """There is one worker, this process."""
    return LocalEngine()
