"""What the launches share: whether there is a Triton, and the sizes of its tiles."""

from __future__ import annotations

import functools
import importlib.util


@functools.cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def tile(number: int) -> int:
    """The smallest power of two that holds a number of elements and can be a side of a matrix product: 16 or more."""
    return max(16, 1 << (number - 1).bit_length())
