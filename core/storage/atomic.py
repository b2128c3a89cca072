"""Writing files so that a kill leaves no half file, and their digests. Free of torch."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from pathlib import Path

from PIL import Image

from ..errors import UserError
from ..scene.image_formats import encode_image, image_suffix
from .refusals import unreadable, unwritable


def write_file(data: bytes, path: Path, name: bool = True) -> Path:
    """Write beside the place, flush to the disk, then move it there.

    A link at ``path`` is replaced, not followed.

    Args:
        data: the whole file.
        path: its place; the folder is there.
        name: flush the new name too. Who writes many files does that once, by `flush_names`.

    Raises:
        UserError: the disk does not take it.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may write one file
    try:
        partial.unlink(missing_ok=True)  # a kill's leftover, or another's link
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(partial, flags, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        if name:
            flush_names(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        _discard(partial)
    return path


def write_image(image: Image.Image, folder: Path, stem: str) -> Path:
    """Write an image as `write_file` does, in the format of new ones.

    Args:
        folder: is there already.
        stem: the name, without a suffix.

    Raises:
        UserError: the disk does not take it.
    """
    return write_file(encode_image(image), folder / f"{stem}{image_suffix()}")


def flush_names(folder: Path) -> None:
    """Make new names in a folder last through a power cut, where the system can open folders.

    Raises:
        OSError: the folder is gone, or the disk does not take it.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def discard_partial(folder: Path) -> None:
    """Delete what kills have left of files; for the folder's only writer."""
    for path in folder.glob("*.partial"):
        _discard(path)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. A file that has not changed is read once a process.

    Raises:
        UserError: it cannot be read, or is no file.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
            raise UserError(f"file '{path}'", "a file", "a folder, a pipe or a device")
        return _digest(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise unreadable(path, error) from None


def content_digest(path: Path) -> str:
    """Of a file as `digest`; of a folder, of the names and digests of what is in it.

    Raises:
        UserError: something cannot be read.
    """
    if not path.is_dir():
        return digest(path)
    try:
        inside = sorted(one for one in path.rglob("*") if one.is_file())
    except OSError as error:
        raise unreadable(path, error) from None
    listed = [f"{one.relative_to(path).as_posix()} {digest(one)}" for one in inside]
    return hashlib.sha256("\n".join(listed).encode("utf-8", "surrogateescape")).hexdigest()


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder: Path, place: str) -> Path:
    """Make a folder for images, with its parents.

    Args:
        folder: may exist.
        place: what the error names, for example ``"--output"``.

    Raises:
        UserError: it cannot be made, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(place, "a folder that can be made", f"'{folder}' ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise UserError(place, "a folder that can be written to", f"'{folder}', which is read-only")
    return folder


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the first error is the one to report
