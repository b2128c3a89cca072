"""Digests of files as they were when they were opened, whatever has taken their places since. Free of torch."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .atomic import content_digest, digest

AT_ONCE = 16_000_000
"""Bytes up to which a file is hashed when it is opened; a larger one is held open, and hashed when somebody asks."""


@dataclass(frozen=True)
class _Held:
    path: Path
    handle: int
    state: tuple[int, int]


class FileDigests:
    """SHA-256 of some files, in hexadecimal.

    Args:
        paths: files, or folders of them, by the names that their digests go by. One that is not there has no digest.

    Raises:
        UserError: a file is there and cannot be read.
    """

    def __init__(self, paths: Mapping[str, Path] | None = None) -> None:
        self._known: dict[str, str] = {}
        self._held: dict[str, _Held] = {}
        for name, path in (paths or {}).items():
            if path.is_file() and path.stat().st_size > AT_ONCE:
                handle = os.open(path, os.O_RDONLY)
                weakref.finalize(self, os.close, handle)
                self._held[name] = _Held(path, handle, _state(handle))
            elif path.exists():
                self._known[name] = content_digest(path)

    @classmethod
    def of(cls, digests: Mapping[str, str]) -> FileDigests:
        """Digests that are known already."""
        made = cls()
        made._known = dict(digests)
        return made

    def digests(self) -> Mapping[str, str]:
        """By name. A file that was written to since it was opened has none: what was read of it is not known."""
        for name, held in self._held.items():
            value = _digest(held)
            if value is not None:
                self._known[name] = value
        self._held.clear()
        return self._known

    def __reduce__(self) -> tuple[Any, ...]:
        return FileDigests.of, (dict(self.digests()),)


def _state(handle: int) -> tuple[int, int]:
    state = os.fstat(handle)
    return state.st_mtime_ns, state.st_size


def _digest(held: _Held) -> str | None:
    if held.path.is_file() and os.path.samestat(held.path.stat(), os.fstat(held.handle)):
        value = digest(held.path)  # which may know it
    else:
        with open(os.dup(held.handle), "rb") as file:
            file.seek(0)
            value = hashlib.file_digest(file, "sha256").hexdigest()
    return value if _state(held.handle) == held.state else None
