"""The walk: a forward of our own over a diffusers UNet's submodules, in which the ports are explicit calls.

Without contributions it equals `UNet2DConditionModel.forward` bit for bit (tests/core/test_unet.py). Nothing is
installed on the UNet but the hooks of weight deltas, and those only while the walk runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from .attention import cross_attention, self_attention
from .conditions import Conditions
from .deltas import installed
from .errors import UserError
from .maps import MapRecorder, Site
from .ports import Residuals

_BLOCKS = frozenset(
    {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UNetMidBlock2DCrossAttn"}
)
_UNUSED = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
    "cross_attention_norm",
)


class _Finished(Exception):
    """The last wanted map is recorded: the rest of the UNet is not needed."""


class UNetWalk:
    """Evaluates a frozen UNet under conditions.

    Args:
        unet: a UNet of the Stable Diffusion 1.x or 2.x kind; its parameters are never written.

    Raises:
        UserError: the UNet has parts that the walk does not know.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        _check(unet)
        self.unet = unet

    def __call__(
        self,
        latents: Float[Tensor, "r c h w"],
        timestep: Num[Tensor, ""],
        conditions: Conditions,
        maps: MapRecorder | None = None,
    ) -> Float[Tensor, "r c h w"] | None:
        """Predict for every row; None when ``maps`` asked to stop after its last layer.

        The latents may be of another dtype than the UNet, which computes in its own.
        """
        latents = latents.to(self.unet.dtype)
        with installed(self.unet, conditions.deltas), _until_finished() as finished:
            finished.append(self._walk(latents, timestep, conditions, maps))
        return finished[0] if finished else None

    def _walk(
        self, latents: Tensor, timestep: Tensor, conditions: Conditions, maps: MapRecorder | None
    ) -> Tensor:
        unet: Any = self.unet
        hidden = 2 * latents - 1.0 if unet.config.center_input_sample else latents
        time = unet.time_embedding(unet.get_time_embed(sample=hidden, timestep=timestep), None)
        if unet.time_embed_act is not None:
            time = unet.time_embed_act(time)

        residuals = [
            (
                group,
                group.entry.module(group.of(latents), timestep, group.of(conditions.context), group.state),
            )
            for group in conditions.residuals
        ]
        inputs = hidden
        hidden = unet.conv_in(inputs)
        for channels in conditions.channels:
            hidden = channels.add(hidden, channels.entry.convolution(channels.state.to(hidden)))

        def attend(module: nn.Module, hidden: Tensor, path: str) -> Tensor:
            return _transformer(module, hidden, path, conditions, maps)

        skips = [hidden]
        for number, block in enumerate(unet.down_blocks):
            attentions = getattr(block, "attentions", None)
            for i, resnet in enumerate(block.resnets):
                hidden = resnet(hidden, time)
                if attentions is not None:
                    hidden = attend(attentions[i], hidden, f"down_blocks.{number}.attentions.{i}")
                    if i == len(block.resnets) - 1:
                        hidden = _add_blocks(hidden, number, residuals)
                skips.append(hidden)
            for downsample in block.downsamplers or ():
                hidden = downsample(hidden)
                skips.append(hidden)
            if attentions is None:
                # diffusers adds to a plain block's output in place, and so to its last skip as well
                hidden = skips[-1] = _add_blocks(hidden, number, residuals)

        for group, given in residuals:
            if given.skips:
                skips = [group.add(skip, part) for skip, part in zip(skips, given.skips, strict=True)]

        if unet.mid_block is not None:
            hidden = unet.mid_block.resnets[0](hidden, time)
            for i, (attention, resnet) in enumerate(
                zip(unet.mid_block.attentions, unet.mid_block.resnets[1:], strict=True)
            ):
                hidden = resnet(attend(attention, hidden, f"mid_block.attentions.{i}"), time)
        for group, given in residuals:
            if given.middle is not None:
                hidden = group.add(hidden, given.middle)

        for number, block in enumerate(unet.up_blocks):
            attentions = getattr(block, "attentions", None)
            for i, resnet in enumerate(block.resnets):
                hidden = resnet(torch.cat([hidden, skips.pop()], dim=1), time)
                if attentions is not None:
                    hidden = attend(attentions[i], hidden, f"up_blocks.{number}.attentions.{i}")
            for upsample in block.upsamplers or ():
                # odd sizes: the upsampled map takes the size of the skip that it will meet
                uneven = any(side % 2**unet.num_upsamplers for side in latents.shape[-2:])
                hidden = upsample(hidden, skips[-1].shape[2:] if uneven else None)

        if unet.conv_norm_out is not None:
            hidden = unet.conv_act(unet.conv_norm_out(hidden))
        predicted: Tensor = unet.conv_out(hidden)
        return predicted


def _add_blocks(hidden: Tensor, number: int, residuals: list[tuple[Any, Residuals]]) -> Tensor:
    for group, given in residuals:
        if number < len(given.blocks):
            hidden = group.add(hidden, given.blocks[number])
    return hidden


def _transformer(
    module: Any, hidden: Float[Tensor, "r c h w"], path: str, conditions: Conditions, maps: MapRecorder | None
) -> Float[Tensor, "r c h w"]:
    grid = (hidden.shape[2], hidden.shape[3])
    residual = hidden
    hidden = module.norm(hidden)
    if not module.use_linear_projection:
        hidden = module.proj_in(hidden)
    hidden = rearrange(hidden, "r c h w -> r (h w) c")
    if module.use_linear_projection:
        hidden = module.proj_in(hidden)
    for i, block in enumerate(module.transformer_blocks):
        site = Site(f"{path}.transformer_blocks.{i}", grid)
        hidden = self_attention(block.attn1, block.norm1(hidden)) + hidden
        for insert in conditions.inserts:
            if site.path in insert.entry.modules:
                part = insert.entry.modules[site.path](
                    insert.of(hidden), insert.state.to(hidden), insert.strength.to(hidden)
                )
                hidden = insert.put(hidden, part)
        hidden = cross_attention(block.attn2, block.norm2(hidden), site, conditions, maps) + hidden
        if maps is not None and maps.done:
            raise _Finished
        hidden = block.ff(block.norm3(hidden)) + hidden
    if module.use_linear_projection:
        hidden = module.proj_out(hidden)
    hidden = rearrange(hidden, "r (h w) c -> r c h w", h=grid[0]).contiguous()
    if not module.use_linear_projection:
        hidden = module.proj_out(hidden)
    return hidden + residual


@contextmanager
def _until_finished() -> Iterator[list[Tensor]]:
    with suppress(_Finished):
        yield []


def _check(unet: UNet2DConditionModel) -> None:
    blocks = [*unet.down_blocks, *unet.up_blocks, *([unet.mid_block] if unet.mid_block is not None else [])]
    unknown = sorted({type(block).__name__ for block in blocks} - _BLOCKS)
    if unknown:
        raise UserError("UNet", f"blocks among {sorted(_BLOCKS)}", ", ".join(unknown))
    for name in _UNUSED:
        if unet.config.get(name) is not None:
            raise UserError(
                f"UNet configuration, field '{name}'",
                "null, as in Stable Diffusion 1.x and 2.x",
                repr(unet.config[name]),
            )
    for name, module in unet.named_modules():
        if isinstance(module, BasicTransformerBlock) and module.norm_type != "layer_norm":
            raise UserError(
                f"UNet, module '{name}'", "transformer blocks with layer norm", str(module.norm_type)
            )
    for block in unet.up_blocks:
        if any(getattr(block, name, None) for name in ("s1", "s2", "b1", "b2")):
            raise UserError(
                "UNet", "a UNet as it was loaded", "one with FreeU switched on", "Call unet.disable_freeu()."
            )
