"""The fields of records, read from their annotations: what keys lead to, and what a field is when nothing is said."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from pydantic.fields import FieldInfo

Keys = tuple[str | int, ...]
"""Where a value is in a record or a document: the names and indices that lead to it."""


# every point of a sweep asks for the same ones
_type_hints: Any = functools.cache(functools.partial(get_type_hints, include_extras=True))


def field_types(section: type[Any]) -> Mapping[str, Any]:
    """The annotation of every field of a record, with what stands beside the type."""
    types: Mapping[str, Any] = _type_hints(section)
    return types


def records(annotation: Any) -> Iterator[type[Any]]:
    """The records within an annotation, from the outside."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from records(inner)


def holder(section: type[Any], keys: Keys) -> type[Any]:
    """The innermost record that keys lead to from a record."""
    for key in keys:
        if isinstance(key, str):
            section = next(records(field_types(section).get(key)), section)
    return section


def default(field: dataclasses.Field[Any]) -> Any:
    """What a field of a record is when it is left out; `dataclasses.MISSING` when it may not be."""
    if isinstance(field.default, FieldInfo):
        if field.default.is_required():
            return dataclasses.MISSING
        # pydantic 2.10 asks for the data even where the factory does not read it
        return field.default.get_default(call_default_factory=True, validated_data={})
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
