"""Weft composes conditions over one frozen diffusion UNet.

Importing this package loads no torch: the public names, which stand in `__init__.pyi`, are imported when first used.
"""

import os
import sys

from ._lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(__name__, __file__)


def _unshadow() -> None:
    """Hide this checkout's folder `kernels` from `import kernels`, for Python started in the root of the checkout.

    transformers asks for a package of that name, and would find ours.
    """
    ours = os.path.join(os.path.dirname(__file__), "kernels")
    for entry in sys.path:
        found = os.path.join(entry or os.curdir, "kernels")
        if os.path.isdir(found) and os.path.samefile(found, ours):
            sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]  # None means "not there"


_unshadow()
