"""Engines: where items are drawn. `local` is this process; `ray` spreads them over an existing Ray cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from ..events import Listener
from ..job import Item


class Engine(ABC):
    """Draws items and tells a listener, in this process, of each picture as soon as it is finished."""

    @abstractmethod
    def draw(self, items: Sequence[Item], listener: Listener) -> None:
        """Draw all items, whatever their settings; what fails is told and does not stop the rest."""


def groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Items that can share a batch, in order of the first of each."""
    for group in dict.fromkeys(item.group for item in items):
        yield [item for item in items if item.group == group]
