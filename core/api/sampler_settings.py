"""How an image is sampled: the section `sampler` of a run file, which a generation and its record carry too."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..scene.record import record
from .schedulers import SCHEDULERS

BATCH_SIZE = 8
"""Images that are denoised together where nothing says how many."""

if TYPE_CHECKING:
    SchedulerName = str
else:
    SchedulerName = Literal[tuple(SCHEDULERS)]

Side = Annotated[int, Field(ge=8, le=4096)]


@record
class SamplerSettings:
    """How an image is sampled; what is not given is up to the model.

    Args:
        scheduler: how noise is taken away from step to step.
        steps: how many steps the scheduler takes; 20 to 50 are usual.
        width: in pixels, a multiple of the model's latent factor.
        height: likewise.
        batch_size: images that are drawn together; halved when memory runs out.
    """

    scheduler: SchedulerName = "ddim"
    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    width: Side | None = None
    height: Side | None = None
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None

    def options(self) -> dict[str, Any]:
        """The keyword arguments of `Pipeline.generate` that are given."""
        values = ((item.name, getattr(self, item.name)) for item in dataclasses.fields(self))
        return {name: value for name, value in values if value is not None}
