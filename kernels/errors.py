"""The error of an operation that was given what it cannot work on, and what lets an error leave its process."""

from __future__ import annotations

import copyreg
from typing import Any


class PortableError(Exception):
    """An error that pickle and copy rebuild whole, whatever its constructor takes.

    `Exception` would call the class with ``args``, which hold the message.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class KernelError(PortableError, ValueError):
    """An argument of an operation is wrong; raised before anything is launched.

    Args:
        place: operation and argument.
        expected: what would have been right.
        found: what came, with its shape or type.
    """

    def __init__(self, place: str, expected: str, found: str) -> None:
        self.place, self.expected, self.found = place, expected, found
        super().__init__(f"{place}: expected {expected}, found {found}")
