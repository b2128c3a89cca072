"""Keeps the layers importable only as `weft.*`, and checks shapes and types in `weft.core`."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# On sys.path, the root would let the folder `kernels` shadow a package that transformers imports.
sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != ROOT]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tests' tensors are small: a second thread gains nothing, and beside another busy process two threads that wait for
# each other at every operation made one test of seconds last minutes (measured on 2 cores).
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("weft.core", "beartype.beartype")
