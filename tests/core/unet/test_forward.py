"""The forward pass is diffusers', bit for bit, and refuses what it does not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import weft
from weft.core.api.attention_maps import MapRecorder
from weft.core.families.blocks import cross_attention_paths
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.testing import random_unet

SD1: dict[str, Any] = {}
SD2 = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "layers_per_block": 2,
}


@pytest.mark.parametrize("config", [SD1, SD2], ids=["sd1", "sd2"])
@pytest.mark.parametrize("size", [(8, 8), (12, 8), (7, 9)])
@torch.no_grad()
def test_equals_diffusers_bit_for_bit(config, size) -> None:
    unet = random_unet(**config)
    latents, context = torch.randn(3, 4, *size), torch.randn(3, 11, 32)
    timestep = torch.tensor(501)
    ours = UNetForward(unet)(latents, timestep, gather(list(context), [()] * 3))
    assert torch.equal(ours, unet(latents, timestep, context).sample)


@torch.no_grad()
def test_recording_changes_no_bit_and_rows_sum_to_one() -> None:
    unet = random_unet()
    latents, context = torch.randn(2, 4, 8, 8), torch.randn(2, 11, 32)
    conditions = gather(list(context), [()] * 2)
    recorder = MapRecorder(frozenset(cross_attention_paths(unet)), slice(None))
    plain = UNetForward(unet)(latents, torch.tensor(501), conditions)
    assert torch.equal(UNetForward(unet)(latents, torch.tensor(501), conditions, recorder), plain)
    assert len(recorder.probabilities) == 7
    for site, maps in recorder.probabilities.items():
        assert maps.shape == (2, 4, site.grid[0] * site.grid[1], 11)
        assert torch.allclose(maps.sum(-1), torch.ones(maps.shape[:-1]))


@torch.no_grad()
def test_stopping_runs_nothing_after_the_last_map() -> None:
    unet = random_unet()
    called = []
    handle = unet.up_blocks[0].register_forward_pre_hook(lambda *_: called.append("up"))
    unet.up_blocks[0].resnets[0].register_forward_pre_hook(lambda *_: called.append("up"))
    recorder = MapRecorder(frozenset({"mid_block.attentions.0.transformer_blocks.0"}), slice(None), stop=True)
    given = UNetForward(unet)(
        torch.randn(1, 4, 8, 8), torch.tensor(1), gather([torch.randn(11, 32)], [()]), recorder
    )
    handle.remove()
    assert given is None
    assert not called
    assert recorder.done


def test_maps_are_differentiable_in_the_latents() -> None:
    unet = random_unet().requires_grad_(False)
    latents = torch.randn(1, 4, 8, 8, requires_grad=True)
    recorder = MapRecorder(
        frozenset({"down_blocks.0.attentions.0.transformer_blocks.0"}), slice(None), stop=True
    )
    UNetForward(unet)(latents, torch.tensor(500), gather([torch.randn(11, 32)], [()]), recorder)
    (maps,) = recorder.probabilities.values()
    (gradient,) = torch.autograd.grad(maps[..., 3].amax(), latents)
    assert gradient.abs().max() > 0


def test_other_unets_are_refused() -> None:
    other = random_unet(
        down_block_types=("SimpleCrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
    )
    with pytest.raises(weft.UserError, match="SimpleCrossAttnDownBlock2D"):
        UNetForward(other)
    with pytest.raises(weft.UserError, match="addition_embed_type"):
        UNetForward(
            random_unet(
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=80,
            )
        )
    freeu = random_unet()
    freeu.enable_freeu(0.9, 0.2, 1.2, 1.4)
    with pytest.raises(weft.UserError, match="FreeU"):
        UNetForward(freeu)
