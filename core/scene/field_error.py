"""What pydantic refuses, said as place, expected and found. Free of torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from ..errors import UserError, did_you_mean
from .fields import Keys, holder

Suggest = Callable[[str, Collection[str]], str]
"""A hint for a name that does not exist, given those that do."""

_UNKNOWN = ("unexpected_keyword_argument", "unexpected_positional_argument", "extra_forbidden")
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "path_type": "a path",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "dataclass_type": "a mapping of settings",
    "string_too_short": "text that is not empty",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
}


@dataclass(frozen=True)
class FieldError:
    """An error at a value of a record or a document, before its line is known.

    Args:
        keys: lead to the value.
        expected: what would have been right.
        found: what is there.
        hint: one more sentence.
        at_name: the key itself is wrong.
    """

    keys: Keys
    expected: str
    found: str
    hint: str = ""
    at_name: bool = False


def quoted(value: Any) -> str:
    """A value as Python writes it, at most 80 characters."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__module__.split('.')[0]} numbers of shape {tuple(shape)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def field_error(
    section: type[Any],
    data: Any,
    error: ErrorDetails,
    known: Sequence[str] | None = None,
    write: Callable[[Any], str] = quoted,
    suggest: Suggest = did_you_mean,
) -> FieldError:
    """One of pydantic's errors.

    Args:
        section: the record that ``data`` was read as.
        data: a mapping of its fields.
        error: of `pydantic.ValidationError.errors`.
        known: the names that ``data`` may have; the fields of ``section`` by default.
        write: quotes what is there.
        suggest: for a name that does not exist.
    """
    kind, location, context = error["type"], error["loc"], error.get("ctx", {})
    keys = _within(data, location)
    if kind in _UNKNOWN:
        fields = [field.name for field in dataclasses.fields(holder(section, keys[:-1]))]
        names = fields if keys[:-1] or known is None else known
        return unknown_name(keys, str(location[-1]), names, suggest)
    if isinstance(cause := context.get("error"), UserError):
        named = re.search(r"field '(\w+)'", cause.place)
        return FieldError((*keys, named[1]) if named else keys, cause.expected, cause.found, cause.hint)
    if kind == "missing":
        if isinstance(last := location[-1], int):
            return FieldError(keys, f"at least {last + 1} values", f"{len(error['input'])}")
        return FieldError((*keys, last), f"'{last}'", "no such setting")
    if kind in ("too_long", "too_short"):
        limit = context.get("max_length", context.get("min_length"))
        word = "at most" if kind == "too_long" else "at least"
        plural = "s" if limit != 1 else ""
        return FieldError(keys, f"{word} {limit} value{plural}", f"{context['actual_length']}")
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else _wanted(error["msg"])
    if kind == "path_type" and isinstance(getattr(error["input"], "shape", None), tuple):
        hint = "PIL.Image.fromarray makes an image of numbers."
        return FieldError(keys, "a path or an open image", write(error["input"]), hint)
    return FieldError(keys, expected, write(error["input"]))


def unknown_name(
    keys: Keys, name: str, known: Collection[str], suggest: Suggest = did_you_mean
) -> FieldError:
    """A name that does not exist among those that do."""
    return FieldError(keys, f"one of {', '.join(known)}", f"'{name}'", suggest(name, known), at_name=True)


def _wanted(message: str) -> str:
    """What pydantic's message says was expected, to follow the word "expected"."""
    for start in ("Input should be ", "Value error, "):
        message = message.removeprefix(start)
    return message[:1].lower() + message[1:]


def _within(data: Any, location: Keys) -> Keys:
    """The part of pydantic's location that leads to something in ``data``; the rest names branches of unions."""
    keys: Keys = ()
    for part in location:
        known = (
            data if isinstance(data, Mapping) else range(len(data)) if isinstance(data, (list, tuple)) else ()
        )
        if part not in known:
            break
        data = data[part]
        keys = (*keys, part)
    return keys
