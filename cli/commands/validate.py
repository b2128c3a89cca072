"""Check run files without drawing anything: every error at once, with its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ...core.errors import UserError
from ...core.runfile.run import Run
from ..exit_code import Exit
from ..options import Device, Dtype, Overrides, PluginFiles, Vae, Variant, loading
from ..printing import out, print_error
from ..run_files import read_runs


def run(
    run_files: Annotated[list[Path], typer.Argument(metavar="RUN.yaml...", help="Run files.")],
    overrides: Overrides = None,
    plugin_files: PluginFiles = None,
    device: Device = None,
    dtype: Dtype = None,
    variant: Variant = None,
    vae: Vae = None,
) -> Exit:
    """Check every file with the same overrides; exit code 2 when one is wrong."""
    code = Exit.OK
    for path in run_files:
        try:
            chosen = [*(overrides or ()), *loading(device, dtype, variant, vae)]
            runs = read_runs(path, chosen, plugin_files or ())
        except UserError as error:
            print_error(error)
            code = Exit.USER_ERROR
        else:
            out.print(f"{path}: ok, {_summary(runs)}")
    return code


def _summary(runs: Sequence[Run]) -> str:
    images = sum(len(run.seeds) for run in runs)
    scenes = len({run.number for run in runs})
    variants = len(runs) // scenes
    parts = [_count(images, "image"), _count(scenes, "scene") if scenes > 1 else ""]
    counted = " of ".join(part for part in parts if part)
    return f"{counted} in {_count(variants, 'variant')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
