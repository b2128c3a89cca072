"""From pydantic's errors to mistakes in a file: where each is, what was expected, what is there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError

from .errors import UserError, did_you_mean
from .records import wanted
from .yamlfile import Keys

_NOT_YAML = {"is_instance_of", "needs_python_object"}
"""Kinds of error that come from the Python-only side of a union, such as an open picture."""


@dataclasses.dataclass(frozen=True)
class Complaint:
    """A mistake at a value of a document, before its line is known; ``at_name`` when the key itself is the mistake."""

    keys: Keys
    expected: str
    found: str
    hint: str = ""
    at_name: bool = False


def complaints(
    section: type, data: Any, error: ValidationError, also: Iterable[str] = ()
) -> Iterator[Complaint]:
    """Every mistake that pydantic found in ``data``, once for each value.

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
        if isinstance(cause := context.get("error"), UserError):
            named = re.search(r"field '(\w+)'", cause.place)
            yield Complaint((*keys, named[1]) if named else keys, cause.expected, cause.found, cause.hint)
        elif kind == "missing" and isinstance(loc[-1], int):
            yield Complaint(keys, f"at least {loc[-1] + 1} values", f"{len(item['input'])}")
        elif kind == "missing":
            yield Complaint((*keys, loc[-1]), f"'{loc[-1]}'", "no such setting")
        elif kind in ("unexpected_keyword_argument", "extra_forbidden"):
            known = _settings(section, keys[:-1])
            yield unknown(keys, str(loc[-1]), known if keys[:-1] else [*also, *known])
        elif kind in ("too_long", "too_short"):
            limit = context.get("max_length", context.get("min_length"))
            word = "at most" if kind == "too_long" else "at least"
            yield Complaint(
                keys, f"{word} {limit} value{'s' if limit != 1 else ''}", f"{context['actual_length']}"
            )
        else:
            value = item["input"]
            expected = _BOUNDS[kind].format(**context) if kind in _BOUNDS else _EXPECTED.get(kind)
            yield Complaint(keys, expected or wanted(item["msg"]), written(value), _advice(kind, value))


def unknown(keys: Keys, name: str, known: list[str]) -> Complaint:
    """A setting that does not exist."""
    hint = _OTHER_NAMES.get(name, "") or did_you_mean(name, known)
    return Complaint(keys, f"one of {', '.join(known)}", f"'{name}'", hint, at_name=True)


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


_OTHER_NAMES = {
    "batch": "It is called 'batch_size'.",
    "metric": "It is called 'metrics' and is a list.",
    "scene": "It is called 'scenes' and is a list.",
    "bbox": "It is called 'box'.",
    "boxes": "Each subject has a 'box' of its own.",
    "cfg": "It is written guidance: [{type: classifier_free, scale: 7.5}].",
    "guidance_scale": "It is written guidance: [{type: classifier_free, scale: 7.5}].",
    "image": "It is called 'images' and is a list.",
    "negative": "It is called 'negative_prompt'.",
    "num_inference_steps": "It is called 'steps', under 'sampler'.",
    "seed": "It is called 'seeds' and is a list.",
    "size": "It is written as 'width' and 'height', under 'sampler'.",
    "steps": "It belongs under 'sampler'.",
    "scheduler": "It belongs under 'sampler'.",
    "height": "It belongs under 'sampler'.",
    "width": "It belongs under 'sampler'.",
    "text": "It is called 'phrase' in a subject, and 'prompt' in a scene.",
}

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


def _advice(kind: str, value: Any) -> str:
    if kind in ("int_type", "float_type") and isinstance(value, str) and re.fullmatch(r"[-+.\d]+", value):
        return "Without quotes it is a number."
    if kind == "bool_type" and str(value).lower() in ("yes", "no", "on", "off"):
        return "YAML 1.2 knows only true and false."
    if kind == "string_type" and value is not None and not isinstance(value, (list, dict)):
        return "In quotes it is text."
    return "It has to be a list: put it in brackets." if kind in ("tuple_type", "list_type") else ""


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


def _settings(section: Any, keys: Keys) -> list[str]:
    """Names of the fields of the record that these keys lead to."""
    for key in keys:
        if isinstance(key, str):
            section = next(_records(get_type_hints(section).get(key)), section)
    return [field.name for field in dataclasses.fields(section)]


def _records(annotation: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from _records(inner)
