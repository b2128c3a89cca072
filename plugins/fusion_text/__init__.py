"""The text path of Subject-Diffusion (Ma et al. 2023, arXiv 2307.11410)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ...core.conditioner import Conditioner, Prepared
from ...core.hookspecs import hookimpl
from ...core.plugin import Plugin
from ...core.records import record
from .prompt import PLACEHOLDER

if TYPE_CHECKING:
    from ...core.host import Host
    from ...core.scene import Scene


@record
class FusionText(Conditioner):
    """Shows subjects as in their reference images: the prompt says "the {noun} is {placeholder}" of each.

    A word made of the subject's images stands for the placeholder, and a text encoder trained for it, held as low-rank
    deltas, reads the whole; its states replace the branch's. Low-rank deltas of the UNet go with it.

    Args:
        placeholder: one word; the one of the training.
        weights: a ``.safetensors`` file; the model folder's own ``weft/fusion_text.safetensors`` by default.
        image_encoder: a local open_clip checkpoint (``.safetensors``); the model folder's own by default.
        architecture: its name in open_clip; by default what an ``open_clip_config.json`` beside it says, else
            ``"ViT-L-14-quickgelu"``, OpenAI's.

    Raises:
        UserError: on `generate`: as `PseudoWord`, or a subject's clause no longer fits the text encoder.
    """

    name: ClassVar[str] = "fusion_text"

    placeholder: Annotated[
        str, Field(pattern=r"^\w+$", description="the word that stands for a subject, as in training")
    ] = PLACEHOLDER
    weights: Annotated[Path | None, Field(description="trained weights; the model's own by default")] = None
    image_encoder: Annotated[
        Path | None, Field(description="open_clip checkpoint; the model's own by default")
    ] = None
    architecture: Annotated[
        str | None, Field(description="the image encoder's name in open_clip; OpenAI's ViT-L/14 by default")
    ] = None

    def prepare(self, scene: Scene, host: Host) -> Prepared:
        from .read import read

        return read(self, scene, host)


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [FusionText]
