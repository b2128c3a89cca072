"""The files of a folder as commands.

The first paragraph of a file's docstring is the help, its function `run` is the command. A file is imported when its
command is called, so that the others cost nothing. A folder in the folder is a group.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .exit_code import guarded
from .installed_commands import installed_commands

FOLDER = Path(__file__).parent / "commands"


class CommandFolder(TyperGroup):
    """A group of commands; the folder of all commands has those of other distributions too.

    Args:
        folder: whose files they are.
        options: of `TyperGroup`.
    """

    def __init__(self, folder: Path = FOLDER, **options: Any) -> None:
        super().__init__(**options)
        self._is_root = folder == FOLDER
        for path in sorted(folder.iterdir()):
            if path.name[0] in "._":
                continue
            if path.is_dir():
                about = _help(path / "__init__.py")
                self.add_command(CommandFolder(path, name=path.name, help=about, no_args_is_help=True))
            else:
                self.add_command(_Unloaded(path))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The file's, or an installed one; other distributions are looked at when no file has the name."""
        return super().get_command(ctx, cmd_name) or (
            installed_commands().get(cmd_name) if self._is_root else None
        )

    def list_commands(self, ctx: Any) -> list[str]:
        """Files first."""
        return [
            *self.commands,
            *(sorted(installed_commands().keys() - self.commands) if self._is_root else ()),
        ]


class _Unloaded(TyperCommand):
    """A command whose file is imported when it is called; its help is known before."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem, help=_help(path))
        self._module = ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        run = import_module(f".{self._module}", __package__).run
        app.command(self.name, help=self.help)(guarded(run))
        return typer.main.get_command(app).make_context(info_name, args, *more, **extra)


def _help(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
