"""A forward pass of our own over a diffusers UNet's submodules, in which the ports are explicit calls.

Without contributions it equals `UNet2DConditionModel.forward` bit for bit (tests/core/unet/test_forward.py). Nothing is
installed on the UNet, so threads may share it. On a GPU, and compiled, rows that begin with the same latents are
computed once until they part, which is at the first cross-attention.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor

from ..api.attention_maps import Look, MapRecorder, Site
from ..api.guidance import Step
from ..errors import UserError
from ..families import family_of
from ..families.blocks import cross_attention_paths
from .attention import block_self_attention, cross_attention, repeated
from .compile import Captured, Compiled, Prediction
from .conditions import Conditions
from .entry_calls import called, check_paths, fitting
from .residuals import add_blocks, add_skips, added, residuals_of

_BLOCKS = frozenset(
    {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UNetMidBlock2DCrossAttn"}
)


# what runs before rows part; a weight delta on any of it concerns some rows and not others
_PREFIX = (
    "conv_in",
    "time_embedding",
    "down_blocks.0.resnets.0.",
    *(
        f"down_blocks.0.attentions.0.{name}"
        for name in (
            "norm",
            "proj_in",
            *(f"transformer_blocks.0.{part}" for part in ("norm1", "attn1", "norm2", "attn2.to_q")),
        )
    ),
)


@dataclass(frozen=True)
class _Pass:
    """One forward pass: its conditions, what to capture, the step, and what was captured so far."""

    conditions: Conditions
    look: Look
    step: Step | None
    captured: list[Captured] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.look.stop and len(self.captured) == self.look.count


class UNetForward:
    """Evaluates a frozen UNet under conditions.

    Args:
        unet: of one of the families that can be loaded; its parameters are never written.
        compiled: runs `_forward` in a compiled form.
        share: compute rows of the same latents once until they part. None is yes on a GPU and when compiled, and no on
            a CPU, where a batch of another size rounds otherwise in the last bit, which 20 steps were seen to enlarge
            to 3e-5, and the same numbers as diffusers' are worth more than the 3 % saved.

    Raises:
        UserError: the UNet has parts that the forward pass does not know.
    """

    def __init__(
        self, unet: UNet2DConditionModel, compiled: Compiled | None = None, share: bool | None = None
    ) -> None:
        _check(unet)
        self.unet = unet
        self._family = family_of(unet.config)
        self._family.check(unet.config)
        self._share = unet.device.type != "cpu" or compiled is not None if share is None else share
        self._compiled = compiled
        self._plain = partial(self._forward, unet)
        self._paths = tuple(cross_attention_paths(unet))
        # diffusers looks through all parameters for it at every call
        self._dtype = unet.dtype

    def __call__(
        self,
        latents: Float[Tensor, "s c h w"],
        timestep: Num[Tensor, ""] | Num[Tensor, " s"],
        conditions: Conditions,
        maps: MapRecorder | None = None,
        step: Step | None = None,
    ) -> Float[Tensor, "r c h w"] | None:
        """Predict for every row of the conditions; None when ``maps`` asked to stop after its last layer.

        The latents may be of another dtype than the UNet, which computes in its own. They are those of every row, or
        those of the first rows when the rest repeats them: ``r = copies * s``. Map edits are told the step.
        """
        latents = latents.to(self._dtype)
        look = Look() if maps is None else maps.look
        if not conditions.started:
            self._check_paths(conditions)
        unet = conditions.over(self.unet)
        forward = partial(self._forward, unet) if conditions.deltas else self._plain
        if self._compiled is None:
            predicted, captured = forward(latents, timestep, conditions, look, step)
        else:
            predicted, captured = self._compiled(forward, latents, timestep, conditions, look, step)
        if maps is not None:
            for one in captured:
                maps.add(*one)
        return predicted

    def _check_paths(self, conditions: Conditions) -> None:
        for tokens in conditions.tokens:
            check_paths(tokens.entry, tokens.entry.projections, self._paths)
        for insert in conditions.inserts:
            check_paths(insert.entry, insert.entry.modules, self._paths)
        for edit in conditions.edits:
            check_paths(edit.entry, edit.entry.paths or (), self._paths)

    def _forward(
        self,
        unet: Any,
        latents: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        look: Look,
        step: Step | None = None,
    ) -> Prediction:
        run = _Pass(conditions, look, step)
        copies = len(conditions.context) // len(latents)
        if copies > 1 and not (self._share and _begin_alike(unet, conditions)):
            latents, copies = repeated(latents, copies), 1
        hidden = 2 * latents - 1.0 if unet.config.center_input_sample else latents
        early = unet.time_embedding(unet.get_time_embed(sample=hidden, timestep=timestep), None)
        if (further := self._family.added_embedding(unet, conditions.added)) is not None:
            early = early + further
        if unet.time_embed_act is not None:
            early = unet.time_embed_act(early)
        time = repeated(early, copies)

        every = repeated(latents, copies) if conditions.residuals else latents
        residuals = [
            (group, residuals_of(group, every, timestep, conditions, unet)) for group in conditions.residuals
        ]
        inputs = hidden
        hidden = unet.conv_in(inputs)
        for channels in conditions.channels:
            place = "convolution of input channels"
            module, state = channels.entry.convolution, channels.state.to(hidden)
            part = called(channels.entry, place, partial(module, state))
            hidden = added(channels, hidden, part, place)

        skips = [hidden]
        for number, block in enumerate(unet.down_blocks):
            attentions = getattr(block, "attentions", None)
            for i, resnet in enumerate(block.resnets):
                hidden = resnet(hidden, early if copies > 1 else time)
                if attentions is not None:
                    hidden = _transformer(attentions[i], hidden, f"down_blocks.{number}.attentions.{i}", run)
                    if run.done:
                        return None, run.captured
                    # the first cross-attention has told the rows apart
                    skips, copies = [repeated(skip, copies) for skip in skips], 1
                    if i == len(block.resnets) - 1:
                        hidden = add_blocks(hidden, number, residuals)
                skips.append(hidden)
            for downsample in block.downsamplers or ():
                hidden = downsample(hidden)
                skips.append(hidden)
            if attentions is None:
                # diffusers adds to a plain block's output in place, and so to its last skip as well
                hidden = skips[-1] = add_blocks(hidden, number, residuals)

        for group, parts in residuals:
            if parts.skips:
                skips = add_skips(skips, group, parts)

        if unet.mid_block is not None:
            hidden = unet.mid_block.resnets[0](hidden, time)
            for i, (attention, resnet) in enumerate(
                zip(unet.mid_block.attentions, unet.mid_block.resnets[1:], strict=True)
            ):
                hidden = _transformer(attention, hidden, f"mid_block.attentions.{i}", run)
                if run.done:
                    return None, run.captured
                hidden = resnet(hidden, time)
        for group, parts in residuals:
            if parts.middle is not None:
                hidden = added(group, hidden, parts.middle, "residual of the middle block")

        for number, block in enumerate(unet.up_blocks):
            attentions = getattr(block, "attentions", None)
            for i, resnet in enumerate(block.resnets):
                hidden = resnet(torch.cat([hidden, skips.pop()], dim=1), time)
                if attentions is not None:
                    hidden = _transformer(attentions[i], hidden, f"up_blocks.{number}.attentions.{i}", run)
                    if run.done:
                        return None, run.captured
            for upsample in block.upsamplers or ():
                # odd sizes: the upsampled map takes the size of the skip that it will meet
                uneven = any(side % 2**unet.num_upsamplers for side in latents.shape[-2:])
                hidden = upsample(hidden, skips[-1].shape[2:] if uneven else None)

        if unet.conv_norm_out is not None:
            hidden = unet.conv_act(unet.conv_norm_out(hidden))
        predicted: Tensor = unet.conv_out(hidden)
        return predicted, run.captured


def _begin_alike(unet: Any, conditions: Conditions) -> bool:
    """Whether rows of the same latents are the same until the first cross-attention, and it comes early."""
    return (
        getattr(unet.down_blocks[0], "attentions", None) is not None
        and not conditions.channels
        and not conditions.added
        and not any(group.entry.path.startswith(_PREFIX) for group in conditions.deltas)
    )


def _transformer(
    module: Any, hidden: Float[Tensor, "q c h w"], path: str, run: _Pass
) -> Float[Tensor, "r c h w"]:
    """One transformer; it gives every row, also when it was given only the first of ``copies * q`` equal ones."""
    conditions, grid = run.conditions, (hidden.shape[2], hidden.shape[3])
    copies = len(conditions.context) // len(hidden)
    residual = repeated(hidden, copies)
    hidden = module.norm(hidden)
    if not module.use_linear_projection:
        hidden = module.proj_in(hidden)
    hidden = rearrange(hidden, "r c h w -> r (h w) c")
    if module.use_linear_projection:
        hidden = module.proj_in(hidden)
    for i, block in enumerate(module.transformer_blocks):
        site = Site(f"{path}.transformer_blocks.{i}", grid)
        attended, probabilities = block_self_attention(
            block.attn1, block.norm1(hidden), site, conditions, run.look, run.step
        )
        if probabilities is not None:
            run.captured.append(("self", site.path, grid, probabilities))
            if run.done:
                return residual
        hidden = attended + repeated(hidden, len(attended) // len(hidden))
        inserts = [insert for insert in conditions.inserts if site.path in insert.entry.modules]
        if inserts:
            hidden = repeated(hidden, len(conditions.context) // len(hidden))
        for insert in inserts:
            place, before = f"insert in '{site.path}'", insert.of(hidden)
            arguments = before, insert.state.to(hidden), insert.strength.to(hidden), grid
            part = called(insert.entry, place, partial(insert.entry.modules[site.path], *arguments))
            part = fitting(insert.entry, place, part, before)
            if (mask := insert.mask_at(grid, hidden)) is not None:
                part = torch.lerp(before, part, rearrange(mask, "r h w -> r (h w) 1"))
            hidden = insert.put(hidden, part)
        attended, probabilities = cross_attention(
            block.attn2, block.norm2(hidden), site, conditions, run.look, run.step
        )
        if probabilities is not None:
            run.captured.append(("cross", site.path, grid, probabilities))
            if run.done:
                return residual
        hidden = attended + repeated(hidden, len(attended) // len(hidden))
        hidden = block.ff(block.norm3(hidden)) + hidden
    if module.use_linear_projection:
        hidden = module.proj_out(hidden)
    hidden = rearrange(hidden, "r (h w) c -> r c h w", h=grid[0]).contiguous()
    if not module.use_linear_projection:
        hidden = module.proj_out(hidden)
    return hidden + residual


def _check(unet: UNet2DConditionModel) -> None:
    blocks = [*unet.down_blocks, *unet.up_blocks, *([unet.mid_block] if unet.mid_block is not None else [])]
    unknown = sorted({type(block).__name__ for block in blocks} - _BLOCKS)
    if unknown:
        raise UserError("UNet", f"blocks among {sorted(_BLOCKS)}", ", ".join(unknown))
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
