"""How images were made, apart from their scenes and seeds. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..storage.file_digests import FileDigests
from .conditioner import Conditioner
from .guidance import Guidance
from .load_settings import LoadSettings
from .sampler_settings import SamplerSettings

Reproducibility = Literal["normal", "exact"]
"""``exact``: an image's bits do not depend on the images beside it; see `Pipeline.generate`."""


@dataclass(frozen=True)
class GenerationSettings:
    """What a generation was called with, and what it ran on.

    Args:
        model: as it was asked for: a zoo name, a path, or a hub id.
        folder: where the model lies; None when it is a single file.
        sampler: every setting written out; the batch size is 1 when ``reproducibility`` is ``exact``.
        device: for example ``cpu`` or ``cuda:0``.
        hardware: the name of the GPU, or the vector instructions of the CPU.
        dtype: of the parameters, for example ``float32``.
        threads: of one operation on the CPU.
        files: of the model, as they were read.
        references: images of the scenes and files of plugins, by their absolute paths, as they were read.
        loaded: how the model was loaded.
        unwritten: what no run file can hold, so that the image cannot be drawn again from one; empty for nothing.
    """

    model: str
    folder: Path | None
    conditioners: tuple[Conditioner, ...]
    guidance: tuple[Guidance, ...]
    sampler: SamplerSettings
    reproducibility: Reproducibility
    device: str
    hardware: str
    dtype: str
    threads: int
    files: FileDigests = field(default_factory=FileDigests, compare=False, repr=False)
    references: FileDigests = field(default_factory=FileDigests, compare=False, repr=False)
    loaded: LoadSettings = field(default_factory=LoadSettings)
    unwritten: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        assert self.sampler.height is not None
        assert self.sampler.width is not None
        return self.sampler.height, self.sampler.width

    @property
    def batch_size(self) -> int:
        """At most so many images together."""
        assert self.sampler.batch_size is not None
        return self.sampler.batch_size
