"""List conditioners and guidance strategies with their parameters, and plugins that are broken."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ....core.api.registry import registry
from ...exit_code import Exit
from ...options import AsJson
from ...printing import errors, print_table, table


def run(as_json: AsJson = False) -> Exit:
    """Every plugin with its parameters; the broken ones on stderr. Exit code 3 when one is broken."""
    plugins = registry().plugins()
    broken = registry().broken()
    if as_json:
        listed = [
            {
                "name": item.name,
                "kind": item.value.kind,
                "distribution": item.distribution,
                "summary": item.value.summary(),
                "parameters": _parameters(item.value),
            }
            for item in plugins
        ]
        print(
            json.dumps({"plugins": listed, "broken": [dataclasses.asdict(one) for one in broken]}, indent=2)
        )
    else:
        shown = table("name", "kind", "from", "what it does")
        for item in plugins:
            shown.add_row(item.name, item.value.kind, item.distribution, item.value.summary())
        print_table(shown)
        for one in broken:
            errors.print(f"broken: '{one.name}' of distribution '{one.distribution}': {one.problem}")
    return Exit.PARTIAL if broken else Exit.OK


def _parameters(plugin: type[Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter

    schema: dict[str, Any] = TypeAdapter(plugin).json_schema()
    return dict(schema.get("properties", {}))
