"""How pictures were made, apart from their scenes and seeds. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .conditioner import Conditioner
from .guidance import Guidance

Reproducibility = Literal["normal", "exact"]
"""``exact``: an image's bits do not depend on the images beside it; see `Pipeline.generate`."""


@dataclass(frozen=True)
class GenerationSettings:
    """What a generation was called with, and what it ran on.

    Args:
        model: as it was asked for: a zoo name, a path, or a hub id.
        folder: where the model lies; None when it is a single file.
        size: (height, width) in pixels.
        batch_size: at most so many images together; 1 when ``reproducibility`` is ``exact``.
        device: for example ``cpu`` or ``cuda:0``.
        hardware: the name of the GPU, or the vector instructions of the CPU.
        dtype: of the parameters, for example ``float32``.
        threads: of one operation on the CPU.
    """

    model: str
    folder: Path | None
    conditioners: tuple[Conditioner, ...]
    guidance: tuple[Guidance, ...]
    scheduler: str
    steps: int
    size: tuple[int, int]
    batch_size: int
    reproducibility: Reproducibility
    device: str
    hardware: str
    dtype: str
    threads: int
