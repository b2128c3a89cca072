"""Reading untrusted JSON configurations as plain data, with limits. Free of torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from ..errors import UserError
from .refusals import unreadable

MAX_CONFIG_BYTES = 1_000_000


def read_config(path: Path, limit: int = MAX_CONFIG_BYTES, infinite: bool = False) -> dict[str, Any]:
    """A JSON object of at most ``limit`` bytes, without NaN.

    Args:
        path: of the file.
        limit: of its size.
        infinite: whether it may hold ``Infinity`` and ``-Infinity``, which diffusers writes for schedulers.

    Raises:
        UserError: the file is missing, too large, or not a JSON object.
    """
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"file '{path}'", "a file that exists", "none")
    try:
        with open(path, "rb") as file:
            raw = file.read(limit + 1)
        constant = _infinity if infinite else _refuse
        config = json.loads(raw.decode("utf-8"), parse_constant=constant) if len(raw) <= limit else None
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"file '{path}'", "JSON", f"something else ({error})") from None
    if len(raw) > limit:
        raise UserError(f"file '{path}'", f"at most {limit} bytes of JSON", "more")
    if not isinstance(config, dict):
        raise UserError(f"file '{path}'", "a JSON object", type(config).__name__)
    return config


def _infinity(constant: str) -> float:
    return _refuse(constant) if constant == "NaN" else float(constant)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"'{constant}' is no number")
