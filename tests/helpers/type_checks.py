"""The check of types and shapes that tests run with: an int is a float, as type checkers have it (PEP 484)."""

from __future__ import annotations

from typing import Any

from beartype import BeartypeConf, beartype

checked: Any = beartype(conf=BeartypeConf(is_pep484_tower=True))
