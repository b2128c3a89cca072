"""The seam between families: a second one enters by its own class, and nothing else changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import diffusers
import pytest
import torch
from torch import Tensor

import weft
from weft.core import families
from weft.core.api.family import Family, TextCondition
from weft.core.families.sd1 import StableDiffusion1
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.testing import random_pipeline, random_unet

WIDE = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 32 + 6 * 8,
}
"""What sets Stable Diffusion XL's UNet apart: blocks without attention first, deeper ones, a pooled state and sizes."""


class Wide(Family):
    """As Stable Diffusion XL: the time embedding takes a pooled text state, and the image's size and crop."""

    name: ClassVar[str] = "wide"
    card: ClassVar[str] = "wide"
    towers: ClassVar[Mapping[str, str]] = {"text_encoder": "tokenizer"}

    def recognises(self, unet: Mapping[str, Any]) -> bool:
        return unet.get("addition_embed_type") == "text_time"

    def recognises_file(self, names: Collection[str]) -> bool:
        return "conditioner.embedders.1.model.ln_final.weight" in names

    def check(self, unet: Mapping[str, Any]) -> None:
        if unet.get("class_embed_type") is not None:
            raise weft.UserError("UNet configuration, field 'class_embed_type'", "null", "another")

    def condition(
        self, text: Any, tokens: Any, embeddings: Sequence[Any], size: tuple[int, int]
    ) -> TextCondition:
        states = text.encode(tokens, embeddings)
        ids = torch.tensor([*size, 0, 0, *size], dtype=torch.float32)
        return TextCondition(states, {"text_embeds": states.mean(dim=0), "time_ids": ids})

    def added_embedding(self, unet: Any, added: Mapping[str, Tensor]) -> Tensor:
        ids = unet.add_time_proj(added["time_ids"].flatten()).reshape(len(added["time_ids"]), -1)
        return unet.add_embedding(torch.cat([added["text_embeds"], ids], dim=-1))

    split = StableDiffusion1.split
    renamed = StableDiffusion1.renamed
    text_encoder = StableDiffusion1.text_encoder
    map_paths = StableDiffusion1.map_paths
    native_size = StableDiffusion1.native_size
    latent_factor = StableDiffusion1.latent_factor
    to_latents = StableDiffusion1.to_latents
    to_pixels = StableDiffusion1.to_pixels


@pytest.fixture
def wide(monkeypatch) -> Family:
    family = Wide()
    monkeypatch.setattr(families, "FAMILIES", {family.name: family, **families.FAMILIES})
    return family


def test_each_is_found_by_its_configuration_and_by_its_file(wide: Family) -> None:
    assert families.family_of({"addition_embed_type": "text_time"}) is wide
    assert families.family_of({"addition_embed_type": None}).name == "sd1"
    assert families.family_of_file(["conditioner.embedders.1.model.ln_final.weight"]) is wide
    assert families.family_of_file(["anything else"]).name == "sd1"


@torch.no_grad()
def test_what_is_added_to_the_time_embedding_equals_diffusers_bit_for_bit(wide: Family) -> None:
    unet = random_unet(**WIDE)
    latents, context = torch.randn(2, 4, 8, 8), torch.randn(2, 11, 32)
    timestep = torch.tensor(501)
    added = {"text_embeds": torch.randn(2, 32), "time_ids": torch.randint(0, 64, (2, 6)).float()}
    rows = [{name: tensor[i] for name, tensor in added.items()} for i in range(2)]
    theirs = unet(latents, timestep, context, added_cond_kwargs=added).sample
    conditions = gather(list(context), [()] * 2, rows)
    assert torch.equal(UNetForward(unet)(latents, timestep, conditions), theirs)
    # rows that differ only in it part before the first cross-attention, also where equal rows are shared
    twice = gather([context[0]] * 2, [()] * 2, rows)
    shared = UNetForward(unet, share=True)(latents[:1], timestep, twice)
    apart = UNetForward(unet)(latents[:1].repeat(2, 1, 1, 1), timestep, twice)
    assert shared is not None
    assert apart is not None
    assert torch.allclose(shared, apart, atol=1e-6)
    assert not torch.allclose(apart[0], apart[1], atol=1e-4)


@torch.no_grad()
def test_a_generation_passes_on_what_a_prompt_adds(wide: Family) -> None:
    small = random_pipeline()
    unet = random_unet(**WIDE)
    pipe = weft.Pipeline("wide", small.text, unet, small.vae, small.scheduler)
    assert pipe.family is wide
    drawn = pipe.generate(weft.Scene("a toy"), guidance=[], steps=1, height=48, width=32, seeds=[4])

    scheduler = diffusers.DDIMScheduler.from_config(dict(small.scheduler))
    scheduler.set_timesteps(1)
    noise = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(4))
    context = small.text.encode(small.text.tokens("a toy"))[None]
    added = {"text_embeds": context.mean(dim=1), "time_ids": torch.tensor([[48.0, 32, 0, 0, 48, 32]])}
    (timestep,) = scheduler.timesteps
    predicted = unet(noise, timestep, context, added_cond_kwargs=added).sample
    expected = scheduler.step(predicted, timestep, noise).prev_sample
    assert torch.allclose(drawn.latents, expected, atol=1e-5)


def test_what_no_family_carries_out_is_refused_with_its_field() -> None:
    with pytest.raises(weft.UserError, match="field 'addition_embed_type'"):
        UNetForward(random_unet(**WIDE))
