"""Which files a generation reads beside its model, and their digests at that moment. Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..checkpoints.files import own_files
from ..scene.scene import Scene
from ..storage.file_digests import FileDigests


def read_files(scenes: Iterable[Scene], plugins: Iterable[Any]) -> FileDigests:
    """The images of scenes and the files that plugins' parameters name (or a record of settings), by absolute path."""
    sources = [image.source for scene in scenes for image in scene.images()]
    sources += [path for plugin in plugins for path in paths_in(plugin)]
    paths = {source.resolve() for source in sources if isinstance(source, Path)}
    return FileDigests({str(path): path for path in sorted(paths)})


def files_with_own(files: FileDigests, folder: Path | None) -> FileDigests:
    """A model's files; of those in its folder that plugins read, what they are now."""
    if folder is None or not (own := own_files(folder)):
        return files
    return FileDigests.of({**files.digests(), **FileDigests(own).digests()})


def paths_in(value: Any) -> Iterator[Path]:
    """The paths in a record, in its lists, and in the records in it."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from paths_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from paths_in(getattr(value, field.name))
