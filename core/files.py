"""Writing pictures so that a kill leaves no half file. Free of torch."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from .errors import UserError


def write_image(image: Image.Image, path: Path) -> Path:
    """Write a PNG beside its place, flush it to the disk, then move it there.

    Raises:
        UserError: the disk does not take it.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            image.save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        return partial.replace(path)
    except OSError as error:
        raise UserError(f"file '{path}'", "a disk that takes it", error.strerror or str(error)) from None
    finally:
        partial.unlink(missing_ok=True)


def make_folder(folder: Path, place: str) -> Path:
    """Make a folder for pictures, with its parents.

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
