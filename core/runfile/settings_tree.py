"""The data of a run file while it is put together, with the place where every part of it was written."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from ..scene.field_error import FieldError
from ..scene.fields import Keys
from .strict_yaml import Document, FileError

Origin = tuple[Document, Keys]
"""A document, and the keys of a value in it."""


class Tree:
    """Settings from a run file, with what other files and the command line put in their places.

    Args:
        document: where a value is written that nothing else has been put over.
        data: its settings; they are copied.
    """

    def __init__(self, document: Document, data: dict[str, Any] | None = None) -> None:
        self.document = document
        self.data: dict[str, Any] = copy.deepcopy(document.data if data is None else data)
        self._origins: dict[Keys, Origin] = {}

    def copy(self) -> Tree:
        """A tree that can be changed without changing this one."""
        tree = Tree(self.document, self.data)
        tree._origins = dict(self._origins)
        return tree

    def origin(self, keys: Keys) -> Origin:
        """Where the value at ``keys`` is written."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self._origins:
                document, written_at = self._origins[keys[:length]]
                return document, written_at + keys[length:]
        return self.document, keys

    def has(self, keys: Keys) -> bool:
        """Whether a value can be put at ``keys``: the list or mapping that would hold it is there, or can be made."""
        return _holder(copy.deepcopy(self.data), keys) is not None

    def put(self, keys: Keys, value: Any, origin: Origin) -> None:
        """Write a value, which is copied, over the one at ``keys``; `has` must be true."""
        self._forget(keys)
        _holder(self.data, keys)[keys[-1]] = copy.deepcopy(value)
        self._origins[keys] = origin

    def credit(self, keys: Keys, origin: Origin) -> None:
        """Say where a value would be written that is not there."""
        self._origins[keys] = origin

    def take(self, keys: Keys) -> Any:
        """Take the value at ``keys`` out of its mapping; None when it is not there."""
        holder = _holder(self.data, keys) if self.has(keys) else None
        return holder.pop(keys[-1], None) if isinstance(holder, dict) else None

    def error(self, error: FieldError) -> FileError:
        """An error with the file, line and column of its value."""
        document, keys = self.origin(error.keys)
        return document.error(keys, error.expected, error.found, error.hint, error.at_name)

    def _forget(self, keys: Keys) -> None:
        for known in [known for known in self._origins if known[: len(keys)] == keys]:
            del self._origins[known]


def split_path(path: str) -> Keys:
    """The keys of a dotted path such as ``guidance.0.scale``; list items are counted from 0."""
    return tuple(
        int(part) if part.isascii() and part.isdigit() and len(part) < 6 else part for part in path.split(".")
    )


def leaves(data: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every value that is neither a list nor a mapping, with its keys."""
    if isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(value, (*keys, key))
    else:
        yield keys, data


def _holder(data: Any, target: Keys) -> Any:
    """The list or mapping that the last key of ``target`` belongs to, or None; an absent mapping is made."""
    for depth, key in enumerate(target):
        fits = (isinstance(data, dict) and isinstance(key, str)) or (
            isinstance(data, list) and key in range(len(data))
        )
        if not fits:
            return None
        if depth == len(target) - 1:
            return data
        data = data.setdefault(key, {}) if isinstance(data, dict) else data[key]
    return None
