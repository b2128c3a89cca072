"""`weft models` and `weft plugins list`: what is there, without loading torch."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ..core.api.registry import registry
from ..zoo.models import Status, status
from .app import Exit
from .show import errors, print_table, table


def list_models(as_json: bool) -> Exit:
    """Every model card, and whether its files are there and are what they should be."""
    found = [status(name, card) for name, card in sorted(registry().models().items())]
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
        return Exit.OK
    made = table("name", "size", "files", "what it is")
    for one in found:
        made.add_row(one.name, _size(one), one.state, one.summary)
    print_table(made)
    return Exit.OK


def list_plugins(as_json: bool) -> Exit:
    """Every plugin with its parameters; the broken ones on stderr. Exit code 3 when one is broken."""
    found = registry().plugins()
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
            for item in found
        ]
        print(
            json.dumps({"plugins": listed, "broken": [dataclasses.asdict(one) for one in broken]}, indent=2)
        )
    else:
        made = table("name", "kind", "from", "what it does")
        for item in found:
            made.add_row(item.name, item.value.kind, item.distribution, item.value.summary())
        print_table(made)
        for one in broken:
            errors.print(f"broken: '{one.name}' of distribution '{one.distribution}': {one.problem}")
    return Exit.PARTIAL if broken else Exit.OK


def _parameters(plugin: type[Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter

    schema: dict[str, Any] = TypeAdapter(plugin).json_schema()
    return dict(schema.get("properties", {}))


def _size(one: Status) -> str:
    return f"{one.bytes / 1e6:.1f} MB" if one.weights else "-"
