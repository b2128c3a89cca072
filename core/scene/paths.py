"""Paths as users write them. Free of torch."""

from __future__ import annotations

from pathlib import Path


def expanded(path: Path) -> Path:
    """A path with a home folder in place of a ``~`` that it starts with; ``~name`` of nobody stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
