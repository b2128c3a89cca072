"""Reading run files: YAML in, runs out. Free of torch.

`read_run_file` reports every error at once, each with its line. A valid file is a list of runs: one, or one for every
scene and every point of its sweep.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from ..api.guidance import DEFAULT_GUIDANCE
from ..api.registry import Registry, registry
from ..scene.reading import SceneWarning
from .otherwise import MeantOtherwise
from .overrides import apply_overrides
from .parser import Reader
from .run import Run
from .scene_list import scene_trees
from .settings import KINDS, VERSION
from .settings_tree import Tree
from .strict_yaml import MAX_ERRORS, Document, FileError, FileErrors, read_yaml
from .sweep import variants
from .unread import UnreadData
from .validation import written

MAX_PICTURES = 100_000


def read_run_file(
    path: str | Path, plugins: Registry | None = None, overrides: Iterable[str] = ()
) -> list[Run]:
    """Read, check and expand a run file. Paths in it are relative to its folder.

    Args:
        plugins: where plugins, models and metrics are looked up; the installed ones by default.
        overrides: ``path=value`` each, for example ``sampler.steps=20``; they are checked as the file is.

    Warns:
        SceneWarning: of scene data that nothing in any of the runs reads, and of texts that may be meant otherwise.

    Raises:
        FileErrors: everything that is wrong with it.
    """
    runs, unread, otherwise = _read(read_yaml(path), Path(path).parent, plugins or registry(), overrides)
    for error in (*otherwise.warnings(), *unread.warnings()):
        warnings.warn(SceneWarning(error), stacklevel=2)
    return runs


def runs_of(
    document: Document, folder: Path, plugins: Registry | None = None, overrides: Iterable[str] = ()
) -> list[Run]:
    """As `read_run_file`, without its warnings, of a document whose paths are relative to ``folder``."""
    return _read(document, folder, plugins or registry(), overrides)[0]


def _read(
    document: Document, folder: Path, plugins: Registry, overrides: Iterable[str]
) -> tuple[list[Run], UnreadData, MeantOtherwise]:
    if not isinstance(document.data, dict):
        start = "a mapping that starts with 'version: 1'"
        hint = "Settings are written as name: value, such as prompt: a toy on grass"
        raise FileErrors([document.error((), start, written(document.data), hint)])
    tree = Tree(document)
    _check_version(tree)
    unique = _Unique()
    _complete(tree)
    unique.add(apply_overrides(tree, overrides))
    _complete(tree)
    sweep = tree.take(("sweep",))
    scenes, scene_errors = scene_trees(tree, folder)
    unique.add(scene_errors)
    runs: list[Run] = []
    unread, otherwise = UnreadData(plugins), MeantOtherwise(plugins)
    for number, (scene, images_folder) in enumerate(scenes):
        grid, sweep_errors = variants({} if sweep is None else sweep, scene)
        unique.add(map(scene.error, sweep_errors))
        for variant in grid:
            reader = Reader(variant, folder, images_folder, plugins)
            run = reader.read(number)
            unique.add(map(variant.tree.error, reader.errors))
            if run is not None:
                runs.append(run)
                unread.add(run, variant.tree)
                otherwise.add(run, variant.tree)
        if len(unique.errors) >= MAX_ERRORS:
            break
    pictures_count = sum(len(run.seeds) for run in runs)
    if pictures_count > MAX_PICTURES and not unique.errors:
        limit, hint = f"at most {MAX_PICTURES:,} images", "Fewer seeds, or a run file for each part."
        unique.add([document.error((), limit, f"{pictures_count:,}", hint)])
    if unique.errors:
        raise FileErrors(list(unique.errors.values()))
    return runs, unread, otherwise


class _Unique:
    """Errors, each once: scenes and points of a sweep share most of their settings."""

    def __init__(self) -> None:
        self.errors: dict[tuple[str, int, int, str, str], FileError] = {}

    def add(self, errors: Iterable[FileError]) -> None:
        for one in errors:
            self.errors.setdefault((one.file, one.line, one.column, one.expected, one.found), one)


def _check_version(tree: Tree) -> None:
    """Refuse a file of another version; one without a number as its version is left to the checks that follow."""
    version = tree.data.get("version")
    if type(version) is int and version != VERSION:
        newer = "The file is made for a newer weft; this one cannot read it."
        hint = newer if version > VERSION else f"Write version: {VERSION}"
        raise FileErrors([tree.document.error(("version",), f"{VERSION}", written(version), hint)])


def _complete(tree: Tree) -> None:
    """Write out the default guidance, and turn the short form ``[name]`` of plugins into ``[{type: name}]``."""
    tree.data.setdefault("guidance", list(DEFAULT_GUIDANCE))
    for kind in KINDS:
        if isinstance(tree.data.get(kind), list):
            tree.data[kind] = [{"type": item} if isinstance(item, str) else item for item in tree.data[kind]]
