"""Which data of a scene is read by a plugin, and which by none. Free of torch."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_origin

from ..errors import UserError, did_you_mean
from .fields import Keys, default, field_types, records
from .foreign_syntax import foreign_syntax
from .scene import EVERYBODY, Scene

SceneFields = frozenset[str]
"""Names of scene data: ``"source"``, ``"subjects.box"``, ``"maps.edges"``. A name stands for what is below it too."""


class SceneWarning(UserWarning):
    """Scene data that nothing in the run reads, or a text that may be meant otherwise than it is read.

    Args:
        error: its place, what was expected and what came.
    """

    def __init__(self, error: UserError) -> None:
        super().__init__(error)
        self.error = error


def scene_fields() -> Mapping[str, Any]:
    """Every name of scene data that plugins declare to read, with its annotation: maps and subjects' fields too."""
    fields: dict[str, Any] = {}
    for name, annotation in field_types(Scene).items():
        inner = next(records(annotation), None)
        if inner is None:
            fields[name] = annotation
        else:
            fields |= {f"{name}.{field}": of for field, of in field_types(inner).items()}
    return {name: annotation for name, annotation in fields.items() if name not in EVERYBODY}


def check_scene_fields(names: Iterable[str]) -> None:
    """Refuse a name that no scene has.

    Raises:
        UserError: with the names that there are.
    """
    known = scene_fields()
    groups = {name.partition(".")[0] for name in known}
    open_groups = [name for name in groups if get_origin(known.get(name)) is Mapping]
    for name in names:
        if name not in known and name not in groups and name.partition(".")[0] not in open_groups:
            expected = f"one of {', '.join([*known, *(f'{group}.NAME' for group in open_groups)])}"
            raise UserError("scene_fields", expected, f"'{name}'", did_you_mean(name, known))


def covers(declared: SceneFields, name: str) -> bool:
    """Whether data of this name is declared, by itself or by what it is part of."""
    return any(name == one or name.startswith(f"{one}.") for one in declared)


def scene_data(scene: Scene) -> Iterator[tuple[str, Keys]]:
    """The name of everything that a scene says, and the keys that lead to it; maps one by one."""
    for field, value in _said(scene):
        if isinstance(value, Mapping):
            yield from ((f"{field}.{name}", (field, name)) for name in value)
        elif isinstance(value, tuple) and dataclasses.is_dataclass(value[0]):
            for number, part in enumerate(value):
                yield from ((f"{field}.{inner}", (field, number, inner)) for inner, _ in _said(part, field))
        else:
            yield field, (field,)


def unread(scene: Scene, readers: Sequence[SceneFields | None]) -> Iterator[tuple[str, Keys]]:
    """What a scene says and no reader declares; nothing where a reader does not say what it reads."""
    if None not in readers:
        declared = frozenset[str]().union(*(one for one in readers if one is not None))
        yield from (data for data in scene_data(scene) if not covers(declared, data[0]))


def reader_of(name: str) -> str:
    """What data of this name would want."""
    return f"a conditioner, strategy or metric that reads '{name}'"


def warn_of_syntax(prompts: Iterable[str], stacklevel: int) -> None:
    """Warn of what other programs would not draw as words, once for each kind."""
    warned: set[str] = set()
    for prompt in prompts:
        for found, hint in foreign_syntax(prompt):
            if hint not in warned:
                warned.add(hint)
                error = UserError(f"prompt '{prompt}'", "words", f"'{found}'", hint)
                warnings.warn(SceneWarning(error), stacklevel=stacklevel + 1)


def warn_of_unread(scenes: Sequence[Scene], readers: Sequence[SceneFields | None], stacklevel: int) -> None:
    """Warn of every kind of scene data that no reader declares, once, at the first scene that has it."""
    warned: set[str] = set()
    for scene in scenes:
        for name, keys in unread(scene, readers):
            if name not in warned:
                warned.add(name)
                place = f"scene '{scene.prompt}', {scene.place(keys).removeprefix('scene, ')}"
                error = UserError(place, reader_of(name), "none", "Add one, or leave it out of the scene.")
                warnings.warn(SceneWarning(error), stacklevel=stacklevel + 1)


@contextmanager
def without_warnings() -> Iterator[None]:
    """For runs of a file, of which `read_run_file` has warned with the lines, and for the points of a sweep."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SceneWarning)
        yield


def _said(record: Any, holder: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a record that are not as if they were left out, but for those that are for everybody."""
    for field in dataclasses.fields(record):
        name = f"{holder}.{field.name}" if holder else field.name
        value = getattr(record, field.name)
        if name not in EVERYBODY and value != default(field):
            yield field.name, value
