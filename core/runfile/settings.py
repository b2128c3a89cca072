"""The settings of a run file beside its scene: the sections, with their ranges and descriptions. Free of torch."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field

from ..api.generation_settings import Reproducibility
from ..api.guidance import DEFAULT_GUIDANCE
from ..api.load_settings import LoadSettings
from ..api.registry import ARGUMENTS
from ..api.sampler_settings import SamplerSettings
from ..scene.record import record
from ..scene.scene import Scene

KINDS = {setting: kind for kind, setting in ARGUMENTS.items()}
VERSION = 1
"""Of the format that this release writes and reads."""

SCENE_FIELDS = tuple(field.name for field in dataclasses.fields(Scene))
SCENE = tuple(dict.fromkeys(("prompt", "negative_prompt", *SCENE_FIELDS)))
"""What a run file says of a scene, and every scene of a list of its own."""

LOAD_FIELDS = tuple(field.name for field in dataclasses.fields(LoadSettings))
MAX_SEEDS = 10_000

Seed = Annotated[int, Field(ge=0, lt=2**63)]


@record
class SeedRange:
    """Seeds that follow each other.

    Args:
        count: how many images, one for each seed.
        first: the first seed; the others follow it.
    """

    count: Annotated[int, Field(ge=1, le=MAX_SEEDS)]
    first: Annotated[int, Field(ge=0, lt=2**62)] = 0


@record
class Settings(LoadSettings, Scene):
    """The top level of a run file, before its plugins are looked up: a scene, and how a model is loaded and draws it.

    Args:
        version: of this format.
        model: a name that `weft models` lists, a folder in diffusers layout, a .safetensors file, or a hub id.
        negative_prompt: what the guidance strategies that have a negative_prompt read.
        conditioners: how the scene's knowledge enters the model; names, or sections with parameters.
        guidance: the chain of strategies, in order; names, or sections with parameters.
        sampler: how an image is sampled.
        reproducibility: exact gives the same bits whatever is drawn beside an image.
        seeds: one image each; a list, or a count and the first one.
        metrics: what is measured of every image.
    """

    version: Literal[1] = Field(kw_only=True)
    model: Annotated[str, Field(min_length=1)] = Field(kw_only=True)
    negative_prompt: str | None = None
    conditioners: tuple[Any, ...] = ()
    guidance: tuple[Any, ...] = DEFAULT_GUIDANCE
    sampler: SamplerSettings = SamplerSettings()
    reproducibility: Reproducibility = "normal"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)] = (0,)
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Phrases are checked by `scene`; `Reader` has reported the wrong ones, all of them, with their lines."""

    def scene(self) -> Scene:
        """The scene alone."""
        return Scene(**{name: getattr(self, name) for name in SCENE_FIELDS})

    def loaded(self) -> LoadSettings:
        """How the model is loaded."""
        return LoadSettings(**{name: getattr(self, name) for name in LOAD_FIELDS})


_OWN = tuple(field.name for field in dataclasses.fields(Settings) if field.name not in LOAD_FIELDS)
SETTINGS = tuple(dict.fromkeys(("version", "model", *SCENE, *_OWN, *LOAD_FIELDS)))
"""Every setting of the top level, in the order of a run file."""
