"""From pydantic's errors to those of a file: where each is, what was expected, what is there, and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from ..scene.field_error import FieldError, field_error
from ..scene.fields import Keys
from .hints import advice, other_name

_NOT_YAML = {"is_instance_of", "needs_python_object"}
"""Kinds of error that come from the Python-only side of a union, such as an open image."""


def field_errors(
    section: type[Any], data: Any, error: ValidationError, known: Sequence[str]
) -> Iterator[FieldError]:
    """Every error that pydantic has found in ``data``, once for each value.

    Args:
        section: the record that ``data`` was read as.
        data: a mapping.
        error: what pydantic raised.
        known: the names that ``data`` may have.
    """
    reported: set[Keys] = set()
    for item in error.errors(include_url=False):
        one = field_error(section, data, item, known, written, other_name)
        if item["type"] not in _NOT_YAML and one.keys not in reported:
            reported.add(one.keys)
            hint = one.hint or advice(section, one.keys, item["type"], item["input"], item.get("ctx", {}))
            yield dataclasses.replace(one, hint=hint)


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
