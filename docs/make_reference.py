"""Writes the pages of the reference: public names from their docstrings, settings of run files from their schema."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import weft
import weft.plugin
from weft.core.api import hookspecs
from weft.core.runfile.json_schema import run_file_schema
from weft.core.testing import CHECKS


def write_reference(folder: Path) -> None:
    """Write every page anew."""
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / f"{name}.md").write_text(text)


def pages() -> dict[str, str]:
    """Markdown by the name of the page."""
    return {
        "weft": _names("weft", "The package that users import.", weft, weft.__all__),
        "plugin": _names("weft.plugin", "The door for plugin authors.", weft.plugin, weft.plugin.__all__),
        "hooks": _hooks(),
        "checks": _checks(),
        "run-file": _run_file(),
    }


def _names(module: str, about: str, holder: Any, names: Sequence[str]) -> str:
    parts = [f"# {module}\n\n{about}\n"]
    for name in names:
        value = getattr(holder, name)
        if inspect.isclass(value):
            directive, options = "autoclass", ":members:\n:no-inherited-members:\n"
        else:
            directive, options = ("autofunction" if inspect.isfunction(value) else "autodata"), ""
        parts.append(
            f"## {name}\n\n```{{eval-rst}}\n.. {directive}:: {module}.{name}\n{_indented(options)}   :no-index:\n```\n"
        )
    return "\n".join(parts)


def _hooks() -> str:
    rows = [
        f"## {name}\n\n{inspect.getdoc(hook)}\n"
        for name, hook in vars(hookspecs).items()
        if name.startswith("weft_")
    ]
    return "\n".join(
        ["# Hooks\n\nA module of the entry-point group `weft` implements these with `hookimpl`.\n", *rows]
    )


def _checks() -> str:
    rows = [
        f"| `{check.__name__.removeprefix('check_')}` | {' '.join((inspect.getdoc(check) or '').split())} |"
        for check in CHECKS
    ]
    return "\n".join(["# The plugin contract\n", "| check | what it asks |", "|---|---|", *rows, ""])


def _run_file() -> str:
    schema = run_file_schema()
    parts = ["# Settings of a run file\n", _table(schema["properties"])]
    for name, definition in sorted(schema["definitions"].items()):
        if definition.get("properties"):
            parts += [
                f"\n## {name}\n",
                f"{definition.get('description', '')}\n",
                _table(definition["properties"]),
            ]
    return "\n".join([*parts, ""])


def _table(properties: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, part in properties.items():
        default = f"`{part['default']}`" if "default" in part else ""
        text = str(part.get("description", "")).replace("|", "\\|").replace("\n", " ")
        rows.append(f"| `{name}` | {default.replace('|', chr(92) + '|')} | {text} |")
    return "\n".join(["| setting | default | what it is |", "|---|---|---|", *rows])


def _indented(options: str) -> str:
    return "".join(f"   {line}\n" for line in options.splitlines())
