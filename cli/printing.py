"""Printing: errors and tables, the same in every command. Data is printed as data: never as markup or as commands."""

from __future__ import annotations

import re
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.errors import WeftError
from ..core.runfile.strict_yaml import FileError, FileErrors

MOST_ERRORS = 100

# what moves a terminal's cursor, or turns the order of letters around; halves of characters cannot be encoded
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text whose control characters are written out, so that a terminal shows them and obeys none."""
    return _COMMANDS.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


class _DataConsole(Console):
    """Prints texts as they are: nothing in brackets is markup, nothing between colons an emoji."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


errors = _DataConsole(stderr=True, soft_wrap=True)
out = _DataConsole(soft_wrap=True)


def print_error(error: WeftError) -> None:
    """An error on stderr; those of a file with the lines they are on."""
    parts = error.errors if isinstance(error, FileErrors) else (error,)
    for one in parts[:MOST_ERRORS]:
        _print_labelled("error", "bold red", one)
    if len(parts) > 1:
        shown = f", of which the first {MOST_ERRORS} are shown" if len(parts) > MOST_ERRORS else ""
        errors.print(f"{len(parts)} errors{shown}")


def print_warning(error: WeftError) -> None:
    """What is no error but may be meant otherwise, on stderr."""
    _print_labelled("warning", "bold yellow", error)


def _print_labelled(label: str, style: str, error: WeftError) -> None:
    errors.print(Text.assemble((f"{label}: ", style), printable(str(error))))
    if isinstance(error, FileError) and error.source.strip():
        errors.print(Text(_excerpt(error), style="dim"))


def _excerpt(error: FileError, width: int = 100) -> str:
    """The line of an error and a caret below it; a long line is cut around the caret."""
    start = max(0, error.column - 1 - width // 2) if len(error.source) > width else 0
    line = error.source[start : start + width].replace("\t", " ")
    before = printable(line[: error.column - 1 - start])
    return f"  {before}{printable(line[error.column - 1 - start :])}\n  {' ' * len(before)}^"


def table(*columns: str) -> Table:
    """A plain table."""
    columned = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        columned.add_column(column, overflow="fold")
    return columned


def print_table(rows: Table) -> None:
    """A table on stdout; as wide as it needs to be when stdout is no terminal."""
    console = _DataConsole(width=None if sys.stdout.isatty() else 200)
    console.print(rows)
