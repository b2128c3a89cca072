"""The Triton kernels without a GPU: in the interpreter against the reference, and as machine code for Hopper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

pytest.importorskip("triton")

TESTS = Path(__file__).parents[1]
SHARED_MEMORY = 232_448  # bytes that one program may have on Hopper
EXACT = ("combine ddim", "combine dpmpp_2m", "low_rank exact")  # nothing is multiplied, or in float32
FAST = ("backward 40 maps", "low_rank regions")


def run(script: str, *names: str, **environment: str) -> dict[str, Any]:
    """A script's JSON; its own process, because triton reads its mode when it is imported."""
    path = os.pathsep.join(
        filter(None, [environment.pop("PYTHONPATH", ""), str(TESTS), os.environ.get("PYTHONPATH")])
    )
    done = subprocess.run(
        [sys.executable, "-m", f"helpers.{script}", *names],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_kernels_equal_the_reference_in_the_interpreter() -> None:
    """Output, maps and gradient over heads, segments, weights, regions and odd lengths, in float32."""
    errors = run("interpreted")
    assert len(errors) >= 15
    assert {name: error for name, error in errors.items() if not error <= 1e-5} == {}


def machine_code(*names: str) -> dict[str, dict[str, int]]:
    """What a compiled kernel holds, by its name; of all kernels by default."""
    found: dict[str, dict[str, int]] = run("hopper", *names)["kernels"]
    return found


def fits(name: str, holds: dict[str, int]) -> bool:
    """No spills, no more registers and shared memory than there are, and matrix instructions where it multiplies."""
    return (
        holds["spills"] == 0
        and holds["registers"] <= 255
        and holds["shared"] <= SHARED_MEMORY
        and (holds["HGMMA"] > 0 or name in EXACT)
    )


def test_a_kernel_compiles_for_hopper_without_spills() -> None:
    found = machine_code(*FAST)
    assert set(found) == set(FAST)
    assert {name: holds for name, holds in found.items() if not fits(name, holds)} == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_kernel_compiles_for_hopper_without_spills() -> None:
    found = machine_code()
    assert len(found) == 16
    assert {name: holds for name, holds in found.items() if not fits(name, holds)} == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_oldest_triton_of_the_range_compiles_every_kernel(tmp_path) -> None:
    """Its interpreter cannot be asked: that of 3.6 fails at the numpy of the lock."""
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    wanted = next(one for one in map(Requirement, project["dependencies"]) if one.name == "triton")
    oldest = min(Version(one.version) for one in wanted.specifier)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site"]
    subprocess.run([*command, f"triton=={oldest}.*"], check=True)
    found = run("hopper", PYTHONPATH=str(tmp_path / "site"), TRITON_CACHE_DIR=str(tmp_path / "cache"))
    assert Version(found["triton"]).release[:2] == oldest.release[:2]
    assert len(found["kernels"]) == 16
    assert {name: holds for name, holds in found["kernels"].items() if not fits(name, holds)} == {}
