"""The UNet: diffusers' UNet2DConditionModel, epsilon prediction on cached latents, frozen text tower.

Min-SNR weights (arXiv 2303.09556, eq. 4 for epsilon) let few steps go far; the localisation loss of FastComposer
(arXiv 2305.10431, eq. 6) teaches the attention of each noun where its object is, so that two objects bind early.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from einops import einsum, rearrange
from jaxtyping import Float, Int
from open_clip.model import CLIP
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import CLIPTokenizer

from ...core.api.attention_maps import Site
from ...core.report.sheet import Row, sheet
from ...core.scene.pixels import to_images
from ...plugins.shared.attention_loss import balanced_loss
from .clip import text_states
from .loop import LoopRecipe, Task
from .pictures import Pictures

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


class UNetRecipe(BaseModel):
    """Recipe of the stage ``unet``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: dict[str, Any] = Field(description="config of diffusers' UNet2DConditionModel")
    start: Path | None = Field(
        None, description="an exported UNet's folder to go on from, instead of nothing"
    )
    drop_caption: float = Field(0.1, ge=0, le=1, description="chance that the caption is empty")
    min_snr: float = Field(5.0, gt=0)
    middle: float = Field(0.5, ge=0, le=1, description="share of timesteps drawn logit-normal, not uniform")
    localization: float = Field(0.0, ge=0, description="weight of the attention localisation loss")
    prompts: tuple[str, ...] = Field((), description="prompts of the preview, two pictures each")
    guidance_scale: float = 6.0
    preview_steps: int = 30
    loop: LoopRecipe


def create(recipe: UNetRecipe) -> UNet2DConditionModel:
    """The UNet that training starts from."""
    if recipe.start is not None:
        return UNet2DConditionModel.from_pretrained(recipe.start)
    return UNet2DConditionModel.from_config(recipe.model)


class RecordingProcessor:
    """Cross-attention that keeps its probabilities, averaged over heads: [batch, height * width, tokens]."""

    def __init__(self) -> None:
        self.map: Float[Tensor, "b q l"] | None = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "b q c"],
        encoder_hidden_states: Float[Tensor, "b l d"],
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Float[Tensor, "b q c"]:
        q = rearrange(attn.to_q(hidden_states), "b q (h d) -> b h q d", h=attn.heads)
        k = rearrange(attn.to_k(encoder_hidden_states), "b l (h d) -> b h l d", h=attn.heads)
        v = rearrange(attn.to_v(encoder_hidden_states), "b l (h d) -> b h l d", h=attn.heads)
        p = (einsum(q, k, "b h q d, b h l d -> b h q l") * attn.scale).softmax(-1)
        self.map = p.mean(1)
        x = rearrange(einsum(p, v, "b h q l, b h l d -> b h q d"), "b h q d -> b q (h d)")
        out: Tensor = attn.to_out[0](x)
        return out


def timesteps(rng: torch.Generator, n: int, middle: float) -> Int[Tensor, " n"]:
    """``n`` timesteps, one in each n-th of [0, 1) before they are spread, which lowers the variance of the loss.

    A share ``middle`` is logit-normal (arXiv 2403.03206, section 3.1, m = 0, s = 1): shapes are decided in the middle.
    """
    strata = (torch.randperm(n, generator=rng) + torch.rand(n, generator=rng)) / n
    normal = math.sqrt(2) * torch.erfinv((2 * strata - 1).clamp(-0.9999, 0.9999))
    chosen = torch.where(torch.arange(n) < round(middle * n), normal.sigmoid(), strata)
    return (1000 * chosen).long().clamp(max=999)


class UNetTask(Task):
    """Predicts the noise of cached latents under their captions."""

    def __init__(
        self,
        recipe: UNetRecipe,
        pictures: Pictures,
        latents: Path,
        clip: CLIP,
        tokenizer: CLIPTokenizer,
        vae: AutoencoderKL,
        scaling_factor: float,
    ) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.pictures, self.clip, self.vae = recipe, pictures, clip, vae
        self.tokenizer, self.scaling_factor = tokenizer, scaling_factor
        self.latents = torch.from_numpy(np.load(latents))
        self.model: UNet2DConditionModel = create(recipe)
        self.recorders: list[RecordingProcessor] = []
        if recipe.localization:
            self._record()
        self.scheduler = DDPMScheduler(**SCHEDULE)
        cumulative = self.scheduler.alphas_cumprod
        snr = cumulative / (1 - cumulative)
        self.weights = snr.clamp(max=recipe.min_snr) / snr
        self.cumulative = cumulative
        self.empty = torch.tensor(tokenizer("", padding="max_length").input_ids)

    def _record(self) -> None:
        """Give the cross-attention at 16x16 and 8x8 (all but the middle block's) a processor that keeps its map."""
        processors = dict(self.model.attn_processors)
        for name in processors:
            if ".attn2." in name and not name.startswith("mid_block"):
                processors[name] = RecordingProcessor()
                self.recorders.append(processors[name])
        self.model.set_attn_processor(processors)

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        recipe, n = self.recipe, self.recipe.loop.batch_size
        batch = self.pictures.captions(rng, n)
        drop = torch.rand(n, generator=rng) < recipe.drop_caption
        t = timesteps(rng, n, recipe.middle)
        x = self.latents[batch.index].float()
        noise = torch.randn(x.shape, generator=rng)
        tokens = self.empty.repeat(n, 1)
        tokens[:, : batch.tokens.shape[1]] = torch.where(
            drop[:, None], tokens[:, : batch.tokens.shape[1]], batch.tokens
        )
        noisy = self.scheduler.add_noise(x, noise, t).to(device)
        self.clip.to(device)
        with torch.no_grad():
            states = text_states(self.clip, tokens.to(device))
        predicted = self.model(noisy, t.to(device), states).sample
        error = (predicted.float() - noise.to(device)).square().mean((1, 2, 3))
        weighted = (self.weights[t].to(device) * error).mean()
        losses = {"loss": weighted, "min_snr": weighted, "mse": error.mean()}
        if self.recorders:
            maps = {
                Site(str(i), (math.isqrt(r.map.shape[1]),) * 2): r.map
                for i, r in enumerate(self.recorders)
                if r.map is not None
            }
            nouns = batch.nouns.masked_fill(drop[:, None], -1)[..., None]
            # A noisier picture says less about where things will be: the loss fades with the signal's share.
            signal = self.cumulative[t].to(device)
            local = (balanced_loss(maps, nouns.to(device), batch.masks.to(device)) * signal).mean()
            losses["loss"] = weighted + recipe.localization * local
            losses["localization"] = local
        return losses

    def preview(self, path: Path) -> None:
        device = next(self.model.parameters()).device
        prompts = [p for p in self.recipe.prompts for _ in range(2)]
        if not prompts:
            return
        ids = self.tokenizer(prompts, padding="max_length").input_ids
        states = text_states(self.clip, torch.tensor(ids, device=device))
        null = text_states(self.clip, self.empty[None].to(device)).expand(len(prompts), -1, -1)
        scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        scheduler.set_timesteps(self.recipe.preview_steps)
        x = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)
        for t in scheduler.timesteps:
            off, on = self.model(torch.cat([x, x]), t, torch.cat([null, states])).sample.chunk(2)
            x = scheduler.step(off + self.recipe.guidance_scale * (on - off), t, x).prev_sample
        images = self.vae.to(device).decode(x / self.scaling_factor).sample
        drawn = to_images(images / 2 + 0.5)
        rows = [Row(prompt, drawn[2 * i : 2 * i + 2]) for i, prompt in enumerate(self.recipe.prompts)]
        sheet(rows, columns=min(4, len(rows))).save(path)
