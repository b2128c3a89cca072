"""Examine installed plugins: import time, the plugin contract, conflicts. Each in a process of its own.

The contract is checked on a small random model with default parameters; what needs other parameters, or weights of its
own, only its own tests can check.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from ....core.api.registry import registry
from ....core.errors import UserError, did_you_mean
from ...exit_code import Exit
from ...inspection import Inspection, inspect_all
from ...options import AsJson
from ...printing import out

SLOW = 0.1
"""Seconds of an import beyond which commands feel it."""


def run(
    names: Annotated[
        list[str] | None, typer.Argument(help="Entry points; those of other distributions by default.")
    ] = None,
    limit: Annotated[float, typer.Option(min=1.0, help="Seconds for each plugin.")] = 300.0,
    as_json: AsJson = False,
) -> Exit:
    """Say of every plugin what is wrong with it; exit code 3 when something is."""
    known = [point.name for point in registry().points]
    for name in names or ():
        if name not in known:
            hint = did_you_mean(name, known) or "`weft plugins list` shows what is installed."
            raise UserError("plugin", "the name of an installed entry point", f"'{name}'", hint)
    inspections = inspect_all(registry(), names or (), contract=True, limit=limit)
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in inspections], indent=2))
    elif not inspections:
        out.print("Nothing is installed beside Weft's own plugins; name one of those to examine it.")
    else:
        for one in inspections:
            _print(one)
    return Exit.PARTIAL if any(map(_is_ill, inspections)) else Exit.OK


def _is_ill(one: Inspection) -> bool:
    return one.state != "ok" or any(part.failures for part in one.registered)


def _print(one: Inspection) -> None:
    taken = "" if one.import_seconds is None else f", imported in {1000 * one.import_seconds:.0f} ms"
    health = "ill" if _is_ill(one) else "well"
    out.print(f"{one.name} ({one.distribution} {one.version}): {health}{taken}", markup=False)
    lines = [one.error] if one.error else []
    lines += one.notes
    if (one.import_seconds or 0.0) > SLOW:
        lines.append(f"its import takes more than {1000 * SLOW:.0f} ms")
    for part in one.registered:
        lines += [f"{part.name}, {check}: {why}" for check, why in part.failures.items()]
        if part.unchecked:
            lines.append(f"{part.name}: not checked with default parameters: {part.unchecked}")
    for line in lines:
        out.print(f"  {line}", markup=False)
