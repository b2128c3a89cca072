"""Looking at installed plugins, each in a process of its own, so that nothing one does reaches the others."""

from .inspect import Inspection, inspect_all, sound
from .seen import Registered

__all__ = ["Inspection", "Registered", "inspect_all", "sound"]
