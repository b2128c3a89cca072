"""What a process reports of the plugin that it has imported, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.api.registry import Found
from ...core.runfile.json_schema import section_schema


@dataclass(frozen=True)
class Registered:
    """One plugin, model or metric that an entry point brings.

    Args:
        kind: conditioner, guidance, model or metric.
        parameters: JSON Schemas by name.
        failures: what checks of the contract said, by their names.
        unchecked: why the contract could not be checked; empty when it was, or was not asked for.
    """

    name: str
    kind: str
    summary: str
    parameters: Mapping[str, Any]
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unchecked: str = ""


def registered(item: Found) -> Registered:
    """Describe one thing of a registry."""
    if item.kind in ("model", "metric"):
        return Registered(item.name, item.kind, item.value.summary, {})
    parameters = section_schema(item.value, {}).get("properties", {})
    return Registered(item.name, item.kind, item.value.summary(), parameters)
