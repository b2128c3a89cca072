"""Names of grounding's tensors: diffusers' own, and those of GLIGEN's repository, which are turned into them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from weft.plugin import UserError, did_you_mean

_PREFIX = re.compile(r"^(?:model\.)?(?:diffusion_model\.)?")
_OURS = re.compile(r"^(?:position_net\.|(?:down_blocks|mid_block|up_blocks)\..*\.fuser\.)")
_SIDE = re.compile(r"^(input_blocks|output_blocks)\.(\d+)\.1\.(transformer_blocks\.\d+\.fuser\..+)$")
_MIDDLE = re.compile(r"^middle_block\.1\.(transformer_blocks\.\d+\.fuser\..+)$")
_FIRST = re.compile(r"^input_blocks\.0\.0\.(weight|bias)$")
_ORIGINAL_UNET = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "out.")
# the rest of a whole checkpoint: that of GLIGEN's repository, and that of Stable Diffusion's
_OTHERS = (
    *("autoencoder.", "text_encoder.", "diffusion.", "first_stage_model.", "cond_stage_model.", "vae."),
    *("model_ema.", "betas", "alphas_", "sqrt_", "log_one_", "posterior_", "logvar"),
)


def in_diffusers_names(tensors: Mapping[str, Tensor], unet: Any, place: str) -> dict[str, Tensor]:
    """The tensors that belong to grounding, in diffusers' names.

    A file may hold the whole UNet around them, or a whole checkpoint, whose own tensors are left out; ``conv_in`` is
    kept where it has more input channels than the UNet's.

    Args:
        tensors: in diffusers' names or in those of GLIGEN's repository, there also below ``model.``.
        unet: the UNet that they are for.
        place: what an error names.

    Raises:
        UserError: a tensor belongs neither to grounding nor to such a UNet.
    """
    own = unet.state_dict().keys()
    layers = int(unet.config["layers_per_block"])
    chosen: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = renamed(_PREFIX.sub("", key), layers)
        if _OURS.match(name) or name in ("conv_in.weight", "conv_in.bias"):
            chosen[name] = tensor
        elif name not in own and not name.startswith(_ORIGINAL_UNET) and not key.startswith(_OTHERS):
            hint = did_you_mean(name, own)
            raise UserError(place, "tensors named 'position_net.*' and '*.fuser.*'", f"'{key}'", hint)
    first = chosen.get("conv_in.weight")
    if first is None or first.shape == unet.conv_in.weight.shape:
        chosen.pop("conv_in.weight", None)
        chosen.pop("conv_in.bias", None)
    return chosen


def renamed(name: str, layers: int) -> str:
    """A name of GLIGEN's repository in diffusers' terms; any other name as it is.

    Args:
        name: without a prefix.
        layers: residual layers of one resolution, 2 in Stable Diffusion 1.x.
    """
    if side := _SIDE.match(name):
        kind, number, rest = side[1], int(side[2]), side[3]
        # the first input block is conv_in, and every output level has one layer more
        block, layer = divmod(number - (kind == "input_blocks"), layers + 1)
        return f"{'down_blocks' if kind == 'input_blocks' else 'up_blocks'}.{block}.attentions.{layer}.{rest}"
    if middle := _MIDDLE.match(name):
        return f"mid_block.attentions.0.{middle[1]}"
    if first := _FIRST.match(name):
        return f"conv_in.{first[1]}"
    return name


def in_original_names(tensors: Mapping[str, Tensor], unet: Any) -> dict[str, Tensor]:
    """Grounding's tensors by the names of GLIGEN's repository, from diffusers': the inverse of `in_diffusers_names`."""
    layers = int(unet.config["layers_per_block"])
    return {_original(name, layers): tensor for name, tensor in tensors.items()}


def _original(name: str, layers: int) -> str:
    if side := re.match(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.+)", name):
        number = int(side[2]) * (layers + 1) + int(side[3])
        return (
            f"input_blocks.{number + 1}.1.{side[4]}"
            if side[1] == "down"
            else f"output_blocks.{number}.1.{side[4]}"
        )
    if name.startswith("mid_block.attentions.0."):
        return name.replace("mid_block.attentions.0.", "middle_block.1.")
    return name.replace("conv_in.", "input_blocks.0.0.") if name.startswith("conv_in.") else name
