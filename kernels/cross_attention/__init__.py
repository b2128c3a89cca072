"""Cross-attention to several segments of keys and values, with regions, and with captured maps."""

from .dispatch import cross_attention, uses_kernel
from .inputs import Regions, Segment, Segments
from .reference import reference

__all__ = ["Regions", "Segment", "Segments", "cross_attention", "reference", "uses_kernel"]
