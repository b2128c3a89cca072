"""What a plugin has replaced at import, of the interpreter's built-ins and of Weft."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

_Functions = dict[str, Callable[..., Any]]


def functions() -> _Functions:
    """Functions and classes by their place: of the modules that are loaded, and the methods of their classes."""
    return dict(_functions())


def replaced(before: _Functions) -> list[str]:
    """The places where something else stands than in ``before``."""
    now = functions()
    return sorted(place for place, value in before.items() if now.get(place) is not value)


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in ["builtins", *(name for name in sys.modules if name.partition(".")[0] == "weft")]:
        for name, value in list(vars(sys.modules[module]).items()):
            if not callable(value):
                continue
            yield f"{module}.{name}", value
            if isinstance(value, type) and value.__module__ == module != "builtins":
                methods = vars(value).items()
                yield from ((f"{module}.{name}.{method}", one) for method, one in methods if callable(one))
