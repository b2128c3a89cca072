"""What the process does that inspects a plugin: import it, and on request run the contract's checks."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

from ...core.api.registry import ARGUMENTS, Found, Registry
from .replaced import functions, replaced
from .seen import Registered, registered


def main(name: str, value: str, target: str, contract: str) -> None:
    """Inspect one entry point and write what was seen into a file, as JSON: stdout is the plugin's.

    Args:
        name: of the entry point.
        value: of the entry point.
        target: the file.
        contract: ``1`` to run the checks too.
    """
    point, before = EntryPoint(name, value, "weft"), functions()
    registry = Registry([point])
    start = time.perf_counter()
    found = registry.everything()
    seconds = time.perf_counter() - start
    errors = [one.problem for one in registry.broken()]
    if places := replaced(before):
        errors.append(f"it replaces {', '.join(places)}")
    notes = []
    if "torch" in sys.modules:
        notes.append("imports torch, so every command that names it waits for that")
    seen = {
        "seconds": seconds,
        "error": "; ".join(errors),
        "notes": notes,
        "registered": [
            dataclasses.asdict(_checked(item) if contract == "1" else registered(item)) for item in found
        ],
    }
    Path(target).write_text(json.dumps(seen), encoding="utf-8")


def _checked(item: Found) -> Registered:
    """With what the contract's checks say of it, with its default parameters."""
    described = registered(item)
    if item.kind not in ARGUMENTS:
        return described
    from ...core.errors import UserError
    from ...core.testing.case import Case, draw
    from ...core.testing.checks import CHECKS

    failures, case = {}, Case()
    try:
        plugin = item.value()
        draw(plugin, case)
    except UserError as error:
        return dataclasses.replace(described, unchecked=str(error))
    except Exception as error:
        return dataclasses.replace(described, failures={"draws": f"{type(error).__name__}: {error}"})
    for check in CHECKS:
        try:
            check(plugin, case)
        except Exception as error:
            failures[check.__name__.removeprefix("check_")] = f"{type(error).__name__}: {error}"
    return dataclasses.replace(described, failures=failures)
