"""List what is installed: conditioners, guidance strategies, models and metrics, and plugins that are broken.

Plugins of other distributions are imported in processes of their own, for 10 seconds at most.
"""

from __future__ import annotations

import dataclasses
import json

from ....core.api.registry import registry
from ...exit_code import Exit
from ...inspection import Inspection, inspect_all
from ...inspection.seen import registered
from ...options import AsJson
from ...printing import errors, print_table, table


def run(as_json: AsJson = False) -> Exit:
    """Every plugin with its parameters; the broken ones on stderr. Exit code 3 when one is broken or in conflict."""
    inspections = [*_built_in(), *inspect_all(registry())]
    if as_json:
        print(json.dumps({"plugins": [row for one in inspections for row in _rows(one)]}, indent=2))
    else:
        shown = table("name", "kind", "from", "import", "what it does")
        for one in inspections:
            taken = "" if one.import_seconds is None else f"{1000 * one.import_seconds:.0f} ms"
            for part in one.registered:
                shown.add_row(part.name, part.kind, one.distribution, taken, part.summary)
        print_table(shown)
    for one in inspections:
        if one.state != "ok" and not as_json:
            errors.print(f"{one.state}: '{one.name}' of distribution '{one.distribution}': {one.error}")
    return Exit.OK if all(one.state == "ok" for one in inspections) else Exit.PARTIAL


def _built_in() -> list[Inspection]:
    """Of Weft's own, which are imported here; the time is that of all of them."""
    from importlib.metadata import version

    ours = [item for item in registry().loaded() if item.distribution == "weft"]
    seconds = registry().import_seconds
    return [
        Inspection(item.name, "weft", version("weft"), "ok", "", seconds.get(item.name), (registered(item),))
        for item in ours
    ]


def _rows(one: Inspection) -> list[dict[str, object]]:
    """A row for each thing that an entry point registers, or one that says why there is none."""
    shared = {
        name: getattr(one, name)
        for name in ("distribution", "version", "state", "error", "import_seconds", "notes")
    }
    parts = [dataclasses.asdict(part) for part in one.registered] or [{"name": one.name}]
    return [
        {**{name: part.get(name) for name in ("name", "kind", "summary", "parameters")}, **shared}
        for part in parts
    ]
