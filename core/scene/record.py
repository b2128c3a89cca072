"""Frozen, validated records: scenes and plugin parameters are made of these."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import UserError
from .field_error import field_error

T = TypeVar("T")
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, validate_default=True)


@dataclass_transform(frozen_default=True, field_specifiers=(Field, dataclasses.field))
def record(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen pydantic dataclass that refuses unknown fields and raises `UserError`.

    Positional arguments work as for any dataclass (``ClassifierFree(7.5)``); pydantic still sees the fields,
    so a record has a JSON schema and can be read from YAML with every error located.
    """
    section: Any = dataclass(frozen=True, config=_CONFIG)(cls)
    validate = section.__init__
    # a positional argument is located by its number among those that may be positional
    names = [
        field.name for field in sorted(dataclasses.fields(section), key=lambda field: bool(field.kw_only))
    ]

    @functools.wraps(validate)
    def __init__(self: Any, *args: Any, **fields: Any) -> None:
        try:
            validate(self, *args, **fields)
        except ValidationError as error:
            arguments = {**dict(zip(names, args, strict=False)), **fields}
            raise _first_error(type(self), arguments, error, names) from None

    section.__init__ = __init__
    return section  # type: ignore[no-any-return]


def _first_error(
    cls: type[Any], fields: dict[str, Any], error: ValidationError, names: Sequence[str]
) -> UserError:
    """The first of pydantic's errors as one sentence; the rest are counted."""
    first, *rest = error.errors(include_url=False)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return cause
    number, *within = first["loc"] or ("",)
    if isinstance(number, int) and number < len(names):  # a positional argument
        first["loc"] = (names[number], *within)
    one = field_error(cls, fields, first, names)
    subject = fields.get("phrase") or fields.get("prompt")
    place = f"{cls.__name__} '{subject}'" if subject else cls.__name__
    # a default that is wrong itself is nowhere in what came
    place += f", field '{'.'.join(map(str, one.keys or first['loc']))}'"
    if first["type"] == "missing":
        one = dataclasses.replace(one, expected="a value", found="none")
    elif first["type"] == "dataclass_type":
        one = dataclasses.replace(one, expected=f"a {first['ctx']['class_name']}")
    # a field that may be several things has an error for each of them
    others = {item["loc"][:1] for item in rest} - {first["loc"][:1], error.errors()[0]["loc"][:1]}
    more = f"{len(others)} more field(s) are wrong." if others else ""
    return UserError(place, one.expected, one.found, one.hint or more)
