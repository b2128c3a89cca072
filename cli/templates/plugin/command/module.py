"""{{ about }}"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from weft import plugin


def run(run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="A run file.")]) -> None:
    """Count the images that a run file asks for, by model."""
    counts: dict[str, int] = {}
    for one in plugin.read_run_file(run_file):
        counts[one.model] = counts.get(one.model, 0) + len(one.seeds)
    for model, count in counts.items():
        print(f"{count} of {model}")
