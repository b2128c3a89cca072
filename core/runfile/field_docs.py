"""What the fields of a record are for, in the words of its class: for schemas and for hints. Free of torch."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from ..scene.fields import Keys, default, field_types, records


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
    texts: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if base is object or "__doc__" not in vars(base):
            continue
        text = inspect.cleandoc(vars(base)["__doc__"] or "")
        part = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
        for name, words in re.findall(
            r"^    (\w+): ((?:.|\n(?=        ))+)", part[1] if part else "", re.MULTILINE
        ):
            texts[name] = " ".join(words.replace("``", "").split()).rstrip(".")
    return texts


def described(section: type[Any], keys: Keys) -> Described | None:
    """The innermost field that keys lead to from a record; None when they lead to no field at all."""
    innermost = None
    for key in keys:
        if not isinstance(key, str):
            continue
        fields = {field.name: field for field in dataclasses.fields(section)}
        if key not in fields:
            break
        hint = field_types(section)[key]
        innermost = _field(section, fields[key], hint)
        section = next(records(hint), section)
    return innermost


def _field(section: type[Any], field: dataclasses.Field[Any], hint: Any) -> Described:
    infos = [
        part for part in (*getattr(hint, "__metadata__", ()), field.default) if isinstance(part, FieldInfo)
    ]
    text = next((info.description for info in infos if info.description), "")
    text = text or descriptions(section).get(field.name, "")  # type: ignore[arg-type]  # likewise
    return Described(field.name, text, default(field))
