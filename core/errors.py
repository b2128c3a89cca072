"""Errors that a user meets. Each names the place, what was expected and what came."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..kernels.errors import PortableError


class WeftError(PortableError):
    """Base of every error that Weft raises on purpose; it keeps its fields between processes."""


class UserError(WeftError, ValueError):
    """Something that the user can mend: a field, a file, a name, a size.

    Args:
        place: where it is, as the user wrote it (``"subject 'toy', field 'box'"``, ``"run.yaml:4:3"``).
        expected: what would have been right.
        found: what is there.
        hint: one more sentence, for example a "did you mean".
    """

    def __init__(self, place: str, expected: str, found: str, hint: str = "") -> None:
        self.place, self.expected, self.found, self.hint = place, expected, found, hint
        message = f"{place}: expected {expected}, found {found}."
        super().__init__(f"{message} {hint}" if hint else message)


class PluginError(WeftError):
    """A plugin failed, or broke its contract, at a named place of a run."""

    def __init__(self, plugin: str, place: str, problem: str) -> None:
        self.plugin, self.place = plugin, place
        super().__init__(f"plugin '{plugin}', {place}: {problem}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of ``known``, or an empty string when nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else ""
