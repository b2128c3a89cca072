"""The Triton kernels without a GPU: in the interpreter against the reference, and as machine code for Hopper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

HERE = Path(__file__).parent
SHARED_MEMORY = 232_448  # bytes that one program may have on Hopper
FAST = ("backward 40 groups",)


def run(script: str, *names: str) -> dict[str, Any]:
    """A script's JSON; its own process, because triton reads its mode when it is imported."""
    done = subprocess.run(
        [sys.executable, HERE / script, *names],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_kernels_equal_the_reference_in_the_interpreter() -> None:
    """Output, maps and gradient over heads, segments, weights, regions, groups and odd lengths, in float32."""
    errors = run("interpreted.py")
    assert len(errors) >= 15
    assert {name: error for name, error in errors.items() if not error <= 1e-5} == {}


def machine_code(*names: str) -> None:
    found = run("hopper.py", *names)["kernels"]
    assert 0 < len(found) <= 12
    for name, holds in found.items():
        assert holds["spills"] == 0, (name, holds)
        assert holds["registers"] <= 255, (name, holds)
        assert holds["HGMMA"] > 0 or name.startswith("combine"), (name, holds)
        assert holds["shared"] <= SHARED_MEMORY, (name, holds)


def test_a_kernel_compiles_for_hopper_without_spills() -> None:
    machine_code(*FAST)


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper_without_spills() -> None:
    machine_code()
