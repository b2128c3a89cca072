"""Public names that are imported when they are first used (PEP 562), so that a module promises much and costs little.

The names stand once, in the stub beside the module, where type checkers read them too. The package lazy_loader does the
same for names below its own package only, which `weft.plugin` is not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def attach(module: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a module.

    Args:
        module: its ``__name__``.
        file: its ``__file__``; the imports of the ``.pyi`` file beside it, ``from .a.b import C as C``, are its names.
    """
    package = module if Path(file).stem == "__init__" else module.rpartition(".")[0]
    imports = (
        node
        for node in ast.parse(Path(file).with_suffix(".pyi").read_text()).body
        if isinstance(node, ast.ImportFrom)
    )
    homes = {alias.name: f"{package}.{node.module}" for node in imports if node.level for alias in node.names}
    names = sorted(homes)

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{module}' has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[module]), *names})

    return __getattr__, __dir__, names
