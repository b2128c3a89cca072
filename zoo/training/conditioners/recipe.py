"""The recipe of a run: which conditioners learn, over which model, on what, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..loop import LoopRecipe
from .records import FolderSource, WorldSource


class AttentionLoss(BaseModel):
    """The attention of every known noun is asked to lie where its subject is (Subject-Diffusion, section 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(0.01, ge=0)
    form: str = Field(
        "balanced", pattern="^(balanced|mask)$", description="the released code's, or the paper's"
    )


class Late(BaseModel):
    """Conditioners that are to change nothing at large noise, where the words alone say what to draw.

    A sample above ``above`` in which one of them takes part is compared with the frozen model's prediction without
    these conditioners. Of the others that take part in it, none is asked for anything there but to leave that
    prediction as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditioners: tuple[str, ...]
    above: int = Field(750, ge=0, le=999, description="from this timestep on")
    weight: float = Field(
        1.0,
        ge=0,
        description="of the squared change of the picture predicted, in latents, beside the noise error",
    )


class ConditionersRecipe(BaseModel):
    """What to train, on what, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="a zoo name, a folder in diffusers layout or a single file")
    image_encoder: Path | None = Field(
        None, description="an open_clip checkpoint, where the model has no tower"
    )
    architecture: str | None = Field(None, description="its name in open_clip")
    world: WorldSource | None = None
    folder: FolderSource | None = None
    conditioners: dict[str, dict[str, Any]] = Field(description="networks by plugin name, and their sizes")
    alone: float = Field(0.5, ge=0, le=1, description="share of samples that take one conditioner alone")
    shares: dict[str, float] = Field(
        {}, description="how often each is the one that takes part for sure; 1 by default"
    )
    start: dict[str, Path] = Field(
        {}, description="trained weights to go on from; what they lack starts fresh"
    )
    frozen: dict[str, Path] = Field(
        {}, description="trained weights of conditioners that take part but do not learn"
    )
    drop_caption: float = Field(0.1, ge=0, le=1)
    absent: float = Field(0.1, ge=0, le=1, description="chance that a conditioner takes its absent form")
    references: tuple[float, ...] = Field(
        (0.5, 0.25, 0.0, 0.25), description="shares of 1, 2, ... pictures a subject"
    )
    subject_weight: float = Field(
        0.0, ge=0, description="further weight of the loss where referenced subjects are"
    )
    late: Late | None = None
    attention: AttentionLoss | None = None
    token_attention: float = Field(
        0.0, ge=0, description="weight of asking positions within a box to look at its token, others at none"
    )
    min_snr: float = Field(5.0, gt=0)
    middle: float = Field(0.5, ge=0, le=1, description="share of timesteps drawn logit-normal, not uniform")
    preview_pictures: int = Field(4, gt=0)
    preview_steps: int = Field(30, gt=0)
    loop: LoopRecipe

    @model_validator(mode="after")
    def _names_take_part(self) -> ConditionersRecipe:
        late = () if self.late is None else self.late.conditioners
        for field, names in (("start", self.start), ("frozen", self.frozen), ("late", late)):
            for name in names:
                if name not in self.conditioners:
                    raise ValueError(f"field '{field}': '{name}' is not among the 'conditioners'")
        return self
