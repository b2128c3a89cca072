"""List the models that can be loaded by name, and check their files."""

from __future__ import annotations

import dataclasses
import json

from ...core.api.registry import registry
from ...zoo.models import Status, status
from ..exit_code import Exit
from ..inspection import sound
from ..options import AsJson
from ..printing import print_table, table


def run(as_json: AsJson = False) -> Exit:
    """Every model card, and whether its files are there and are what they should be."""
    models = [status(name, card) for name, card in sorted(sound(registry())[0].models().items())]
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in models], indent=2))
        return Exit.OK
    shown = table("name", "size", "files", "what it is")
    for one in models:
        shown.add_row(one.name, _size(one), one.state, one.summary)
    print_table(shown)
    return Exit.OK


def _size(one: Status) -> str:
    return f"{one.bytes / 1e6:.1f} MB" if one.weights else "-"
