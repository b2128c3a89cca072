"""The scripts that measure a GPU run without one too: every pair agrees with float64, and no figure is claimed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = ("gpu_kernels", "gpu_layers", "gpu_methods")


def test_no_script_is_left_out() -> None:
    assert {path.stem for path in BENCHMARKS.glob("gpu_*.py")} == set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_pair_agrees_and_no_figure_is_claimed(script: str) -> None:
    results = BENCHMARKS / "results"
    before = {path.name for path in results.iterdir()}
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{script}.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    compared, _, claimed = done.stdout.partition("No GPU: no figure of speed is measured.")
    assert compared.count(": agrees (") >= 6
    assert claimed.count(": at least ") == compared.count(": agrees (")
    assert " ms" not in done.stdout
    assert {path.name for path in results.iterdir()} == before
