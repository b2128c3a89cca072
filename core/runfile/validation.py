"""From pydantic's errors to errors in a file: where each is, what was expected, what is there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from ..errors import UserError
from ..scene.record import wanted
from .field_docs import holder
from .hints import advice, other_name
from .strict_yaml import Keys

_NOT_YAML = {"is_instance_of", "needs_python_object"}
"""Kinds of error that come from the Python-only side of a union, such as an open picture."""


@dataclasses.dataclass(frozen=True)
class FieldError:
    """An error at a value of a document, before its line is known; ``at_name`` when the key itself is wrong."""

    keys: Keys
    expected: str
    found: str
    hint: str = ""
    at_name: bool = False


def field_errors(
    section: type, data: Any, error: ValidationError, also: Iterable[str] = ()
) -> Iterator[FieldError]:
    """Every error that pydantic found in ``data``, once for each value.

    Args:
        section: the record that ``data`` was read as.
        also: names that are fine in ``data`` beside the fields of ``section``.
    """
    seen: set[Keys] = set()
    for item in error.errors(include_url=False):
        kind, loc = item["type"], item["loc"]
        keys = _within(data, loc)
        if kind in _NOT_YAML or keys in seen:
            continue
        seen.add(keys)
        context = item.get("ctx", {})
        if kind in ("unexpected_keyword_argument", "extra_forbidden"):
            known = [field.name for field in dataclasses.fields(holder(section, keys[:-1]))]
            yield unknown(keys, str(loc[-1]), known if keys[:-1] else [*also, *known])
            continue
        hint = ""
        if isinstance(cause := context.get("error"), UserError):
            named = re.search(r"field '(\w+)'", cause.place)
            keys = (*keys, named[1]) if named else keys
            expected, found, hint = cause.expected, cause.found, cause.hint
        elif kind == "missing" and isinstance(last := loc[-1], int):
            expected, found = f"at least {last + 1} values", f"{len(item['input'])}"
        elif kind == "missing":
            keys = (*keys, last)
            expected, found = f"'{last}'", "no such setting"
        elif kind in ("too_long", "too_short"):
            limit = context.get("max_length", context.get("min_length"))
            word = "at most" if kind == "too_long" else "at least"
            expected = f"{word} {limit} value{'s' if limit != 1 else ''}"
            found = f"{context['actual_length']}"
        else:
            bound = _BOUNDS[kind].format(**context) if kind in _BOUNDS else _EXPECTED.get(kind)
            expected, found = bound or wanted(item["msg"]), written(item["input"])
        hint = hint or advice(section, keys, kind, item["input"], context)
        yield FieldError(keys, expected, found, hint)


def unknown(keys: Keys, name: str, known: list[str]) -> FieldError:
    """A setting that does not exist."""
    return FieldError(keys, f"one of {', '.join(known)}", f"'{name}'", other_name(name, known), at_name=True)


def written(value: Any) -> str:
    """A value as a file's reader would write it, at most 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        text = f"[{', '.join(written(item) for item in value[:20])}]"
        return text if len(text) <= 60 else "a list"
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "dataclass_type": "a mapping of settings",
    "string_too_short": "text that is not empty",
}


_BOUNDS = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
}


def _within(data: Any, loc: tuple[int | str, ...]) -> Keys:
    """The part of pydantic's location that leads to something in ``data``; the rest names branches of unions."""
    keys: Keys = ()
    for part in loc:
        known = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if part not in known:
            break
        data = data[part]
        keys = (*keys, part)
    return keys
