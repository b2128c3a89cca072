"""The engine that needs nothing: this process, one group of equal settings after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..batchsize import Memory
from ..draw import Drawer
from ..items import Item
from ..listener import Listener
from ..pipeline import Pipeline
from . import Engine, groups


class LocalEngine(Engine):
    """Draws in this process. Arguments as of `Drawer`."""

    def __init__(self, loader: Callable[[str], Pipeline] | None = None, memory: Memory | None = None) -> None:
        self._drawer = Drawer(loader, memory)

    def draw(self, items: Sequence[Item], listener: Listener) -> None:
        for group in groups(items):
            self._drawer.draw(group, listener)
