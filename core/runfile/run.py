"""What a run file asks for, ready for a pipeline. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..api.conditioner import Conditioner
from ..api.generation_settings import Reproducibility
from ..api.guidance import Guidance
from ..api.load_settings import LoadSettings
from ..api.sampler_settings import SamplerSettings
from ..scene.scene import Scene


@dataclass(frozen=True)
class Run:
    """One scene at one point of a run file's sweep, ready for a pipeline.

    Args:
        sweep: the swept settings and their values here; empty without a sweep.
        reproducibility: see `Pipeline.generate`.
        metrics: names of what is measured of every image.
        number: of the scene in the file, from 0.
        load: how the model is loaded.
    """

    model: str
    scene: Scene
    conditioners: tuple[Conditioner, ...]
    guidance: tuple[Guidance, ...]
    sampler: SamplerSettings
    seeds: tuple[int, ...]
    sweep: Mapping[str, Any]
    reproducibility: Reproducibility = "normal"
    metrics: tuple[str, ...] = ()
    number: int = 0
    load: LoadSettings = field(default_factory=LoadSettings)
