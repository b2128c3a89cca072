"""Frozen, validated records: scenes and plugin parameters are made of these."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import UserError, did_you_mean

T = TypeVar("T")
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, validate_default=True)


@dataclass_transform(frozen_default=True, field_specifiers=(Field, dataclasses.field))
def record(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen pydantic dataclass that refuses unknown fields and raises `UserError`.

    Positional arguments work as for any dataclass (``ClassifierFree(7.5)``); pydantic still sees the fields,
    so a record has a JSON schema and can be read from YAML with every error located.
    """
    made: Any = dataclass(frozen=True, config=_CONFIG)(cls)
    validate = made.__init__
    # a positional argument is located by its number among those that may be positional
    names = [field.name for field in sorted(dataclasses.fields(made), key=lambda field: bool(field.kw_only))]

    @functools.wraps(validate)
    def __init__(self: Any, *args: Any, **fields: Any) -> None:
        try:
            validate(self, *args, **fields)
        except ValidationError as error:
            given = {**dict(zip(names, args, strict=False)), **fields}
            raise explain(type(self).__name__, given, error, names) from None

    made.__init__ = __init__
    return made  # type: ignore[no-any-return]


def explain(
    name: str, fields: dict[str, Any], error: ValidationError, known: Sequence[str] = ()
) -> UserError:
    """Turn the first of pydantic's errors into one sentence; the rest are counted."""
    first, *rest = error.errors(include_url=False)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return cause
    # a positional argument is located by its number
    names = [
        known[part] if i == 0 and isinstance(part, int) and part < len(known) else part
        for i, part in enumerate(first["loc"])
    ]
    where = ".".join(map(str, names))
    named = fields.get("phrase") or fields.get("prompt")
    place = f"{name} '{named}', field '{where}'" if named else f"{name}, field '{where}'"
    hint = f"{len(rest)} more field(s) are wrong." if rest else ""
    if first["type"] == "missing":
        return UserError(place, "a value", "none", hint)
    if first["type"] in ("unexpected_keyword_argument", "unexpected_positional_argument"):
        return UserError(
            place, f"one of the fields {', '.join(known)}", f"'{where}'", did_you_mean(where, known)
        )
    return UserError(place, wanted(first["msg"]), shown(first.get("input")), hint)


def wanted(message: str) -> str:
    """What pydantic's message says was expected, to follow the word "expected"."""
    for start in ("Input should be ", "Value error, "):
        message = message.removeprefix(start)
    return message[:1].lower() + message[1:]


def shown(value: Any) -> str:
    """A value as an error quotes it: its repr, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
