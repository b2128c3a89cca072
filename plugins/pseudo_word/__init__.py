"""Pseudo words of UMM-Diffusion (Ma et al. 2023, arXiv 2303.09319)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ...core.conditioner import Conditioner, Prepared
from ...core.hookspecs import hookimpl
from ...core.plugin import Plugin
from ...core.records import record

if TYPE_CHECKING:
    from ...core.host import Host
    from ...core.scene import Scene


@record
class PseudoWord(Conditioner):
    """Shows subjects as in their reference images: each takes one word, made of its images, at its noun.

    The prompt with these words goes through the text transformer (h_r); of its states the prompt's own (h_y) take those
    of the nouns alone (h_u). Low-rank deltas of the UNet, the paper's second phase, go with it.

    Args:
        weights: a ``.safetensors`` file; the model folder's own ``weft/pseudo_word.safetensors`` by default.
        image_encoder: a local open_clip checkpoint (``.safetensors``); the model folder's own by default.
        architecture: its name in open_clip; by default what an ``open_clip_config.json`` beside it says, else
            ``"ViT-L-14-quickgelu"``, OpenAI's.

    Raises:
        UserError: on `generate`: no subject of a scene has images, one cannot be read, two subjects share a noun, or
            weights are missing or do not fit.
    """

    name: ClassVar[str] = "pseudo_word"

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
    return [PseudoWord]
