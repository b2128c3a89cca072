"""Keeps the layers importable only as `weft.*`, and checks shapes and types in core, plugins and kernels."""

import os
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# On sys.path, the root would let the folder `kernels` shadow a package that transformers imports.
sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != ROOT]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tests' tensors are small: a second thread gains nothing, and beside another busy process two threads that wait for
# each other at every operation made one test of seconds last minutes (measured on 2 cores).
os.environ.setdefault("OMP_NUM_THREADS", "1")

import helpers.type_checks  # noqa: E402, F401  # so that the hook finds it
import jaxtyping  # noqa: E402

# The kernels' dispatchers and inputs say in their own words what does not fit, and tests ask for these. A check would
# break what is compiled: Triton's source, and the classes that are made where torch traces.
UNCHECKED = ("__init__", "adapter", "call", "dispatch", "inputs", "packed", "triton_kernels")
KERNELS = [
    ".".join(("weft", *path.relative_to(ROOT).with_suffix("").parts))
    for path in (ROOT / "kernels").rglob("*.py")
    if path.stem not in UNCHECKED
]
jaxtyping.install_import_hook(["weft.core", "weft.plugins", *KERNELS], "helpers.type_checks.checked")

read = SourceFileLoader.get_data


def with_types(loader: SourceFileLoader, path: str) -> bytes:
    """A plugin's source with the imports that it makes for type checkers alone, lest its shapes go unchecked."""
    data = read(loader, path)
    is_plugin = loader.name.startswith("weft.plugins.") and path.endswith(".py")
    return data.replace(b"if TYPE_CHECKING:", b"if True:") if is_plugin else data


SourceFileLoader.get_data = with_types  # type: ignore[method-assign, assignment]


@pytest.fixture
def unchecked() -> Iterator[None]:
    """For what torch traces, as a check cannot be traced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
