"""Keeping a folder for one writer at a time. Free of torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from .refusals import unwritable


@contextmanager
def only_writer(folder: Path, place: str) -> Iterator[None]:
    """Keep others that ask for it from writing to a folder.

    The lock is the system's, on the folder itself: it leaves no file, and goes with the process, however that ends.
    Where the system or the disk has no such locks, nobody is kept out.

    Args:
        folder: is there already.
        place: what the error names, for example ``"--output"``.

    Raises:
        UserError: another writes to it.
    """
    if sys.platform == "win32":  # which has no locks on folders
        yield
        return
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise unwritable(folder, error, "folder") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = f"'{folder}', which another run of weft is writing to"
            hint = "Wait until it has ended, or name another folder."
            raise UserError(place, "a folder of its own", found, hint) from None
        except OSError:
            pass  # a disk without locks, such as some network shares
        yield
    finally:
        os.close(handle)
