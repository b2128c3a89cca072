"""The judge: a small network, trained on renders alone, that reads a picture back into words and boxes."""

from __future__ import annotations

from .model import Judge, Reading, Seen, identity, load, read

__all__ = ["Judge", "Reading", "Seen", "identity", "load", "read"]
