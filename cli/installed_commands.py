"""Commands of other distributions: entry points of the group ``weft.commands``, each a function for typer.

The entry point's name is the command's. It is imported when it is called; one that has the name of Weft's is not seen.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand

from ..core.api.plugin_loading import ImportFailure, contained
from ..core.api.registry import distribution_name
from ..core.errors import PluginError
from .exit_code import guarded

GROUP = "weft.commands"


def installed_commands() -> dict[str, InstalledCommand]:
    """By name; nothing is imported."""
    return {point.name: InstalledCommand(point) for point in entry_points(group=GROUP)}


class InstalledCommand(TyperCommand):
    """A command that another distribution brings."""

    def __init__(self, point: EntryPoint) -> None:
        super().__init__(point.name, help=f"Of the distribution {distribution_name(point)}.")
        self._point = point

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name)(guarded(self._imported()))
        return typer.main.get_command(app).make_context(info_name, args, *more, **extra)

    def _imported(self) -> Any:
        try:
            with contained():
                run = self._point.load()
        except ImportFailure as error:
            failure = PluginError(
                self._point.name, f"distribution '{distribution_name(self._point)}'", str(error)
            )
            return lambda: _raise(failure)
        return run


def _raise(error: Exception) -> Any:
    raise error
