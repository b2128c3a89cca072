"""Reading untrusted JSON configurations as plain data, with limits. Free of torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from ..errors import UserError
from .refusals import unreadable

MAX_CONFIG_BYTES = 1_000_000


def read_config(path: Path, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object of at most ``limit`` bytes, without NaN and infinity.

    Raises:
        UserError: the file is missing, too large, or not a JSON object.
    """
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"file '{path}'", "a file that exists", "none")
    try:
        with open(path, "rb") as file:
            raw = file.read(limit + 1)
        config = json.loads(raw.decode("utf-8"), parse_constant=_refuse) if len(raw) <= limit else None
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"file '{path}'", "JSON", f"something else ({error})") from None
    if len(raw) > limit:
        raise UserError(f"file '{path}'", f"at most {limit} bytes of JSON", "more")
    if not isinstance(config, dict):
        raise UserError(f"file '{path}'", "a JSON object", type(config).__name__)
    return config


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"'{constant}' is no number")
