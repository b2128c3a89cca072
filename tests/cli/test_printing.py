"""Data is printed as data: no markup of its is read, no terminal obeys it, no encoding stops it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from weft import UserError
from weft.cli import printing
from weft.core.runfile.strict_yaml import FileError, FileErrors

EVIL = "[/b] [bold]x[/] :smile: \x1b[31mred\x1b]0;title\x07 \u202etxt \udcff [link=http://a]"
SHOWN = "[/b] [bold]x[/] :smile: \\x1b[31mred\\x1b]0;title\\x07 \\u202etxt \\udcff [link=http://a]"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    buffer = io.StringIO()
    for name in ("errors", "out"):
        console: Console = type(getattr(printing, name))(file=buffer, width=300, soft_wrap=True)
        monkeypatch.setattr(printing, name, console)
    return buffer


def test_texts_errors_and_their_lines_are_printed_as_they_are(printed: io.StringIO) -> None:
    printing.out.print(EVIL)
    printing.print_error(UserError("here", "this", EVIL))
    printing.print_warning(UserError(EVIL, "this", "that"))
    printing.print_error(FileError("a.yaml", 1, 1, EVIL, "this", EVIL))
    shown = printed.getvalue()
    assert shown.count(SHOWN) == 5
    assert "\x1b" not in shown
    assert shown.encode()


def test_tables_print_data_too(capsys: pytest.CaptureFixture[str]) -> None:
    rows = printing.table("name", "what")
    rows.add_row(EVIL, "[/nothing]")
    printing.print_table(rows)
    shown = capsys.readouterr().out
    assert SHOWN in shown
    assert "[/nothing]" in shown


def test_the_caret_stands_below_its_letter_whatever_comes_before(printed: io.StringIO) -> None:
    printing.print_error(FileError("a.yaml", 1, 4, "\x1b\x1b: x", "this", "that"))
    line, caret = printed.getvalue().splitlines()[1:]
    assert line[caret.index("^")] == " "
    assert line[caret.index("^") + 1] == "x"


def test_so_many_errors_and_no_more(printed: io.StringIO) -> None:
    printing.print_error(FileErrors([FileError("a", n, 1, "", "this", "that") for n in range(1, 301)]))
    lines = printed.getvalue().splitlines()
    assert len(lines) == 101
    assert lines[-1] == "300 errors, of which the first 100 are shown"
