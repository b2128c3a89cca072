"""The error of an operation that was given what it cannot work on."""

from __future__ import annotations


class KernelError(ValueError):
    """An argument of an operation is wrong; raised before anything is launched.

    Args:
        place: operation and argument.
        expected: what would have been right.
        found: what came, with its shape or type.
    """

    def __init__(self, place: str, expected: str, found: str) -> None:
        self.place, self.expected, self.found = place, expected, found
        super().__init__(f"{place}: expected {expected}, found {found}")
