"""What conditioners with trained weights are told: where the weights are, and what looks at images. Free of torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from weft.plugin import Conditioner, record


@record
class Trained(Conditioner):
    """A conditioner whose networks are trained; `weft.plugin.trained_networks` reads them.

    Args:
        weights: a ``.safetensors`` file; the model folder's own ``weft/<name>.safetensors`` by default.
    """

    weights: Path | None = Field(
        default=None, description="trained weights; the model's own by default", kw_only=True
    )


@record
class TrainedOnPictures(Trained):
    """One whose networks were trained on what an image encoder sees in subjects' images.

    Args:
        image_encoder: a local open_clip checkpoint (``.safetensors``); the model folder's own by default.
        architecture: its name in open_clip; by default what an ``open_clip_config.json`` beside it says, else
            ``"ViT-L-14-quickgelu"``, OpenAI's.
    """

    image_encoder: Path | None = Field(
        default=None, description="open_clip checkpoint; the model's own by default", kw_only=True
    )
    architecture: str | None = Field(
        default=None,
        description="the image encoder's name in open_clip; OpenAI's ViT-L/14 by default",
        kw_only=True,
    )
