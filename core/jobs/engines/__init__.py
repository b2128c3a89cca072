"""Engines: where items are drawn. Each is a file of this folder, with a function ``engine`` that makes it."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

from ...errors import UserError
from ..events import Listener
from ..job import Item


class Engine(ABC):
    """Draws items and tells a listener, in this process, of each image as soon as it is finished."""

    @abstractmethod
    def draw(self, items: Sequence[Item], listener: Listener) -> None:
        """Draw all items, whatever their settings; what fails is reported and does not stop the rest."""


@dataclass(frozen=True)
class EngineSettings:
    """What a user can say of an engine; one that has no use for a setting leaves it.

    Args:
        workers: how many draw at a time.
        address: of the cluster that they are on.
    """

    workers: int | None = None
    address: str | None = None


def engine_names() -> list[str]:
    """The engines there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def make_engine(name: str, settings: EngineSettings) -> Engine:
    """The engine of one of `engine_names`; its file is imported now.

    Raises:
        UserError: there is none of the name, it needs a package that is not installed, or a cluster that cannot be
            reached.
    """
    if name not in engine_names():
        raise UserError("--engine", f"one of {', '.join(engine_names())}", f"'{name}'")
    engine: Engine = import_module(f".{name}", __name__).engine(settings)
    return engine


def groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Items that can share a batch, in order of the first of each."""
    for group in dict.fromkeys(item.group for item in items):
        yield [item for item in items if item.group == group]
