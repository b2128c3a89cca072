"""How an image is sampled: the section `sampler` of a run file, which a generation and its record carry too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from ..errors import UserError
from ..scene.record import record
from .schedulers import scheduler_entry

BATCH_SIZE = 8
"""Images that are denoised together where nothing says how many."""


def _known(name: str) -> str:
    try:
        scheduler_entry(name)
    except UserError as error:  # what refuses the section says where it is
        raise UserError("scheduler", error.expected, error.found, error.hint) from None
    return name


SchedulerName = Annotated[str, AfterValidator(_known)]
OptionValue = bool | int | float | str | tuple[float, ...] | None
Side = Annotated[int, Field(ge=8, le=4096)]


@record
class SamplerSettings:
    """How an image is sampled; what is not given is up to the model.

    Args:
        scheduler: how noise is taken away from step to step; left out, it is the model's own, ddim for most.
        steps: how many steps the scheduler takes; 20 to 50 are usual.
        width: in pixels, a multiple of the model's latent factor.
        height: likewise.
        batch_size: images that are drawn together; halved when memory runs out.
        scheduler_options: arguments of the scheduler in diffusers, for example {use_karras_sigmas: true} or {eta: 1.0}.
        strength: share of the steps that are taken, up to the last, from the scene's source with the noise of the step
            where they begin; left out, all are taken, from noise alone.
        until: share of the steps after which the run ends, its latents as noisy as they then are.
    """

    scheduler: SchedulerName | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    width: Side | None = None
    height: Side | None = None
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    scheduler_options: Mapping[str, OptionValue] = Field(default_factory=dict)
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    until: Annotated[float, Field(gt=0, le=1)] | None = None

    @property
    def scene_fields(self) -> frozenset[str]:
        """What of a scene is read here, as plugins declare it."""
        return frozenset() if self.strength is None else frozenset({"source"})

    def options(self) -> dict[str, Any]:
        """The keyword arguments of `Pipeline.generate` that are given."""
        values = ((item.name, getattr(self, item.name)) for item in dataclasses.fields(self))
        return {name: value for name, value in values if value not in (None, {})}
