"""The manifest of a folder of images: a line of JSON each, by which an interrupted run goes on. Free of torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage.atomic import digest, write_file
from ..storage.refusals import unreadable, unwritable

NAME = "manifest.jsonl"
_NEEDED = ("id", "file", "sha256")


class Manifest:
    """What is in a folder. A later line of an id replaces an earlier one.

    Args:
        folder: must exist. A line that a kill has cut off is not read, and is taken out with the first new line:
            who only reads writes nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self._lines: dict[str, Mapping[str, Any]] = {}
        self._broken = False
        try:
            text = self.path.read_bytes().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise unreadable(self.path, error) from None
        # not splitlines: JSON leaves U+2028 and others as they are within a line
        whole = [line for line in map(_parsed, text.split("\n")) if line is not None]
        for line in whole:
            self._lines[line["id"]] = line
        self._broken = bool(text) and (len(whole) != text.count("\n") or not text.endswith("\n"))

    def __len__(self) -> int:
        return len(self._lines)

    def lines(self) -> list[Mapping[str, Any]]:
        """Every item's line, in the order in which they were first written."""
        return list(self._lines.values())

    def line(self, id: str) -> Mapping[str, Any] | None:
        """The line of an item, or None."""
        return self._lines.get(id)

    def finished(self, id: str) -> bool:
        """Whether the item's image is there and is the one that was written."""
        line = self._lines.get(id)
        if line is None:
            return False
        path = self.folder / line["file"]
        return path.parent == self.folder and path.is_file() and bool(digest(path) == line["sha256"])

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line with ``id``, ``file`` (its name in the folder), ``sha256`` and more; flush it to the disk.

        Raises:
            UserError: the disk does not take it.
        """
        if self._broken:
            write_file(b"".join(map(_encoded, self._lines.values())), self.path)
            self._broken = False
        try:
            with open(self.path, "ab") as file:
                file.write(_encoded(line))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from None
        self._lines[line["id"]] = line


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in _NEEDED)
    return entry if known else None
