"""What a disk refuses, as errors that a user can mend. Free of torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError

READABLE = "a file that can be read"


def reason(error: OSError | ValueError) -> str:
    """What the system says; a null character in a name is a `ValueError`."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def unreadable(path: Path, error: OSError) -> UserError:
    """The error of a file that cannot be read."""
    return UserError(f"file '{path}'", READABLE, reason(error))


def unwritable(path: Path, error: OSError, kind: str = "file") -> UserError:
    """The error of a file or folder that the disk does not take."""
    return UserError(f"{kind} '{path}'", "a disk that takes it", reason(error))
