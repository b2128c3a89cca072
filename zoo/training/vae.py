"""The autoencoder: diffusers' AutoencoderKL, trained on renders with L1, an edge term and a faint KL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .loop import LoopRecipe, Task
from .pictures import Pictures, grid

LATENTS = 4  # channels of the latents, as in Stable Diffusion


class VaeRecipe(BaseModel):
    """Recipe of the stage ``vae``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: dict[str, Any] = Field(description="config of diffusers' AutoencoderKL")
    mse: float = Field(
        4.0, ge=0, description="weight of the squared error; L1 alone prefers flat areas early on"
    )
    edge: float = Field(
        0.5, ge=0, description="weight of the L1 distance of horizontal and vertical differences"
    )
    color: float = Field(
        10.0, ge=0, description="weight of the squared error of 4x4 means: without it, two hues were lost"
    )
    kl: float = Field(
        1e-6, ge=0, description="weight of the KL term, as in latent diffusion (arXiv 2112.10752, G)"
    )
    portraits: float = Field(
        0.15, ge=0, le=1, description="fraction of the batch that are portraits of subjects"
    )
    loop: LoopRecipe


def edges(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w-1"], Float[Tensor, "b c h-1 w"]]:
    """Differences of neighbouring pixels, along the width and along the height."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


class VaeTask(Task):
    """Reconstructs renders in [-1, 1]."""

    def __init__(self, recipe: VaeRecipe, pictures: Pictures) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.pictures = recipe, pictures
        self.model: AutoencoderKL = AutoencoderKL.from_config(recipe.model)
        # Start with small posterior noise (deviation 0.05): at deviation 1, 300 steps went by without one sharp edge.
        with torch.no_grad():
            self.model.quant_conv.weight[LATENTS:] *= 0.1
            self.model.quant_conv.bias[LATENTS:] = -6.0

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        n = self.recipe.loop.batch_size
        portraits = round(n * self.recipe.portraits)
        x = torch.cat([self.pictures.images(rng, n - portraits), self.pictures.portraits(rng, portraits)]).to(
            device
        )
        posterior = self.model.encode(x).latent_dist
        y = self.model.decode(posterior.sample(rng)).sample
        l1 = F.l1_loss(y, x)
        edge = torch.stack([F.l1_loss(a, b) for a, b in zip(edges(y), edges(x), strict=True)]).mean()
        kl = posterior.kl().mean()
        psnr = -10 * torch.log10(((y.detach().clamp(-1, 1) - x) / 2).square().mean())
        mse = F.mse_loss(y, x)
        color = F.mse_loss(F.avg_pool2d(y, 4), F.avg_pool2d(x, 4))
        loss = (
            l1
            + self.recipe.mse * mse
            + self.recipe.color * color
            + self.recipe.edge * edge
            + self.recipe.kl * kl
        )
        return {"loss": loss, "l1": l1, "color": color, "edge": edge, "kl": kl, "psnr": psnr}

    def preview(self, path: Path) -> None:
        device = next(self.model.parameters()).device
        x = self.pictures.first(16).to(device)
        y = self.model.decode(self.model.encode(x).latent_dist.mode()).sample
        grid(torch.cat([x[:8], y[:8], x[8:], y[8:]]), columns=8, zoom=3).save(path)
