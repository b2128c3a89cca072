"""Several low-rank changes of one linear layer, each in its own rows and places, in one operation."""

from .adapter import Adapter
from .dispatch import low_rank, uses_kernel
from .reference import reference

__all__ = ["Adapter", "low_rank", "reference", "uses_kernel"]
