"""What the fields of a record are for, in the words of its class: for schemas and for hints. Free of torch."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from pydantic.fields import FieldInfo

from .strict_yaml import Keys


@dataclass(frozen=True)
class Described:
    """A field of a record.

    Args:
        name: of the field.
        text: what it is for; empty when nothing says so.
        default: its value when it is left out, or `dataclasses.MISSING`.
    """

    name: str
    text: str
    default: Any


@functools.cache
def descriptions(section: type[Any]) -> Mapping[str, str]:
    """What the docstrings of a record and of its bases say of each field under ``Args:``."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if base is object or "__doc__" not in vars(base):
            continue
        text = inspect.cleandoc(vars(base)["__doc__"] or "")
        part = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
        for name, words in re.findall(
            r"^    (\w+): ((?:.|\n(?=        ))+)", part[1] if part else "", re.MULTILINE
        ):
            found[name] = " ".join(words.split()).rstrip(".")
    return found


def described(section: type[Any], keys: Keys) -> Described | None:
    """The innermost field that keys lead to from a record; None when they lead to no field at all."""
    found = None
    for key in keys:
        if not isinstance(key, str):
            continue
        fields = {field.name: field for field in dataclasses.fields(section)}
        if key not in fields:
            break
        hint = _hints(section)[key]  # type: ignore[arg-type]  # mypy takes no class for hashable
        found = _field(section, fields[key], hint)
        section = next(records(hint), section)
    return found


def holder(section: type[Any], keys: Keys) -> type[Any]:
    """The innermost record that keys lead to from a record."""
    for key in keys:
        if isinstance(key, str):
            section = next(records(_hints(section).get(key)), section)  # type: ignore[arg-type]  # likewise
    return section


def records(annotation: Any) -> Iterator[type[Any]]:
    """The records within an annotation, from the outside."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from records(inner)


# every point of a sweep can have the same error
@functools.cache
def _hints(section: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(section, include_extras=True)


def _field(section: type[Any], field: dataclasses.Field[Any], hint: Any) -> Described:
    infos = [
        part for part in (*getattr(hint, "__metadata__", ()), field.default) if isinstance(part, FieldInfo)
    ]
    default: Any = field.default
    if isinstance(default, FieldInfo):
        default = (
            dataclasses.MISSING if default.is_required() else default.get_default(call_default_factory=True)
        )
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    text = next((info.description for info in infos if info.description), "")
    text = text or descriptions(section).get(field.name, "")  # type: ignore[arg-type]  # likewise
    return Described(field.name, text, default)
