"""A plugin's package, written from the templates of its kind."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2

from ..core.api.registry import registry
from ..core.errors import UserError

TEMPLATES = Path(__file__).parent / "templates" / "plugin"

Kind = Literal["conditioner", "guidance", "metric", "model", "command"]


@dataclass(frozen=True)
class _About:
    """What the shared files say of a kind."""

    about: str
    tested: str
    example: str = "weft generate example.yaml"
    group: str = "weft"


_ABOUT: Mapping[Kind, _About] = {
    "conditioner": _About("A conditioner for Weft.", "the plugin contract, a test for each check"),
    "guidance": _About("A guidance strategy for Weft.", "the plugin contract, a test for each check"),
    "metric": _About("A metric for Weft.", "black and white images"),
    "model": _About("A model for Weft.", "the model draws an image"),
    "command": _About(
        "A command for Weft.", "the command on a run file", "weft {name} example.yaml", "weft.commands"
    ),
}


def plugin_package(name: str, kind: Kind) -> Mapping[str, str]:
    """The files of a package by their paths in its folder.

    Args:
        name: of the plugin, of its module and of its entry point.

    Raises:
        UserError: the name is no name of a module, or something has it already.
    """
    _check(name)
    about = _ABOUT[kind]
    values = {
        "name": name,
        "cls": "".join(part.title() for part in name.split("_")),
        "distribution": distribution(name),
        "about": about.about,
        "tested": about.tested,
        "example": about.example.format(name=name),
        "group": about.group,
        "target": f"{name}:run" if kind == "command" else name,
    }
    files = {
        "pyproject.toml": "shared/pyproject.toml",
        "README.md": "shared/README.md",
        "example.yaml": f"{kind}/example.yaml",
        f"src/{name}/__init__.py": f"{kind}/module.py",
        f"tests/test_{name}.py": f"{kind}/test.py",
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    texts = {path: environment.get_template(template).render(values) for path, template in files.items()}
    return {**texts, f"src/{name}/py.typed": ""}


def distribution(name: str) -> str:
    """What the package is called: ``weft-red-eyes`` for ``red_eyes``."""
    return f"weft-{name.replace('_', '-')}"


def _check(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        hint = "It becomes the name of a module too, such as red_eyes."
        raise UserError("NAME", "lower case letters, digits and underscores", f"'{name}'", hint)
    taken = {item.name: item.distribution for item in registry().loaded()}
    taken |= dict.fromkeys((point.name for point in registry().points), "an installed plugin")
    taken |= dict.fromkeys([*sys.stdlib_module_names, "weft"], "a module of Python")
    if name in taken:
        raise UserError("NAME", "a name that is free", f"'{name}', which {taken[name]} has")
