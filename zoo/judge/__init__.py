"""The judge: small networks, trained on renders alone, that read a picture back into words, boxes and pixels."""

from __future__ import annotations

from .model import Judge, Reading, Seen, identity, load, read, segment

__all__ = ["Judge", "Reading", "Seen", "identity", "load", "read", "segment"]
