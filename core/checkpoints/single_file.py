"""Splitting a single Stable Diffusion 1.x file into the three state dicts of a diffusers layout.

diffusers' own key conversion does the work; the result is compared name by name and shape by shape afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor

from ..errors import UserError

_MARKS = {
    "unet": "model.diffusion_model.input_blocks.0.0.weight",
    "vae": "first_stage_model.encoder.conv_in.weight",
    "text_encoder": "cond_stage_model.transformer.",
}


def split(
    tensors: Mapping[str, Tensor], configs: Mapping[str, Mapping[str, Any]], name: str
) -> dict[str, dict[str, Tensor]]:
    """State dicts of ``unet``, ``vae`` and ``text_encoder``.

    Raises:
        UserError: the file is not a whole Stable Diffusion 1.x checkpoint.
    """
    for part, mark in _MARKS.items():
        if not any(key.startswith(mark) for key in tensors):
            hint = "A Stable Diffusion 2.x or XL file has another text encoder; use its diffusers folder."
            raise UserError(
                f"file '{name}'", f"a Stable Diffusion 1.x checkpoint with '{mark}' ({part})", "none", hint
            )
    whole = dict(tensors)
    try:
        return {
            "unet": convert_ldm_unet_checkpoint(whole, dict(configs["unet"])),
            "vae": convert_ldm_vae_checkpoint(whole, dict(configs["vae"])),
            "text_encoder": convert_ldm_clip_checkpoint(whole),
        }
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"file '{name}'", "the key names of Stable Diffusion 1.x", f"others ({error})"
        ) from None
