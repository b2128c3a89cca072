"""Keeping what a script found: one JSON file a row of the table, with the command, the versions and the machine."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "results" / "robustness"
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "pillow", "pyyaml", "pydantic")


def keep(name: str, bar: str, holds: bool, found: dict[str, Any]) -> None:
    """Print a result and write it to the results folder.

    Args:
        name: of the row, and of the file.
        bar: what is asked.
        holds: whether it was reached.
        found: the figures.
    """
    whole = {
        "command": " ".join(["python", f"benchmarks/robustness/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "bar": bar,
        "holds": holds,
        **found,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "machine": f"{platform.system()} {platform.machine()}",
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(whole, indent=2, ensure_ascii=False))
    sys.exit(not holds)
