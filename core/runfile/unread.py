"""Scene data of a run file that nothing in any of its runs reads. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from ..api.registry import Registry
from ..scene.field_error import FieldError
from ..scene.fields import Keys
from ..scene.reading import covers, reader_of, scene_data, unread
from .run import Run
from .settings_tree import Tree
from .strict_yaml import FileError

_Written = tuple[int, Keys]
"""Where data is written: a document, and the keys in it."""


class UnreadData:
    """Gathers what runs leave unread: data that one run of a sweep reads has its purpose.

    Args:
        plugins: where metrics are looked up, and who would read the data.
    """

    def __init__(self, plugins: Registry) -> None:
        self._plugins = plugins
        self._read: set[_Written] = set()
        self._unread: dict[_Written, tuple[str, Keys, Tree]] = {}

    def add(self, run: Run, tree: Tree) -> None:
        """Look at one run, whose settings are written as ``tree`` says."""
        metrics = [self._plugins.metric(name) for name in run.metrics]
        readers = [one.scene_fields for one in (*run.conditioners, *run.guidance)]
        readers.append(run.sampler.scene_fields)
        readers += [metric.scene_fields for metric in metrics if metric is not None]
        without_reader = set(unread(run.scene, readers))
        for name, keys in scene_data(run.scene):
            document, place = tree.origin(keys)
            written = (id(document), place)
            if (name, keys) in without_reader:
                self._unread.setdefault(written, (name, keys, tree))
            else:
                self._read.add(written)

    def warnings(self) -> Iterator[FileError]:
        """One for every kind of data, at the first place where it is, with how many more there are."""
        places: dict[str, list[tuple[Keys, Tree]]] = {}
        for written, (name, keys, tree) in self._unread.items():
            if written not in self._read:
                places.setdefault(name, []).append((keys, tree))
        for name, ((keys, tree), *more) in places.items():
            hint = self._hint(name) + (f" {len(more)} more like it." if more else "")
            yield tree.error(FieldError(keys, reader_of(name), "none", hint, at_name=True))

    def _hint(self, name: str) -> str:
        known = [item for item in self._plugins.loaded() if item.kind != "model"]
        readers = [item.name for item in known if covers(item.value.scene_fields or frozenset(), name)]
        return f"These do: {', '.join(readers)}." if readers else "No built-in does."
