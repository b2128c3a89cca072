"""`weft validate`: everything that is wrong with run files, without loading torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.errors import UserError
from ..core.runfile.read import read_run_file
from ..core.runfile.run import Run
from .app import Exit
from .show import out, print_error


def validate_runs(paths: Sequence[Path], overrides: Sequence[str] = ()) -> Exit:
    """Check every file with the same overrides; exit code 2 when one is wrong."""
    code = Exit.OK
    for path in paths:
        try:
            runs = read_run_file(path, overrides=overrides)
        except UserError as error:
            print_error(error)
            code = Exit.USER_ERROR
        else:
            out.print(f"{path}: ok, {_summary(runs)}")
    return code


def _summary(runs: Sequence[Run]) -> str:
    pictures = sum(len(run.seeds) for run in runs)
    scenes = len({run.number for run in runs})
    variants = len(runs) // scenes
    parts = [_count(pictures, "picture"), _count(scenes, "scene") if scenes > 1 else ""]
    counted = " of ".join(part for part in parts if part)
    return f"{counted} in {_count(variants, 'variant')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
