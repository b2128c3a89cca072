"""Printing: errors and tables, the same in every command."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.errors import WeftError
from ..core.runfile.strict_yaml import FileError, FileErrors

errors = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)


def print_error(error: WeftError) -> None:
    """An error on stderr; those of a file with the lines they are on."""
    parts = error.errors if isinstance(error, FileErrors) else (error,)
    for one in parts:
        _print_labelled("error", "bold red", one)
    if len(parts) > 1:
        errors.print(f"{len(parts)} errors")


def print_warning(error: WeftError) -> None:
    """What is no error but may be meant otherwise, on stderr."""
    _print_labelled("warning", "bold yellow", error)


def _print_labelled(label: str, style: str, error: WeftError) -> None:
    errors.print(Text.assemble((f"{label}: ", style), str(error)))
    if isinstance(error, FileError) and error.source.strip():
        errors.print(Text(_excerpt(error), style="dim"))


def _excerpt(error: FileError, width: int = 100) -> str:
    """The line of an error and a caret below it; a long line is cut around the caret."""
    start = max(0, error.column - 1 - width // 2) if len(error.source) > width else 0
    line = error.source[start : start + width].replace("\t", " ")
    return f"  {line}\n  {' ' * (error.column - 1 - start)}^"


def table(*columns: str) -> Table:
    """A plain table."""
    columned = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        columned.add_column(column, overflow="fold")
    return columned


def print_table(rows: Table) -> None:
    """A table on stdout; as wide as it needs to be when stdout is no terminal."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(rows)
