"""The autoencoder: diffusers' AutoencoderKL, trained on renders with L1, an edge term, a faint KL and, late, a critic.

The critic judges patches (arXiv 1611.07004, section 3.2.2) by the hinge loss; its features also measure how unlike a
picture and its reconstruction are (arXiv 1512.09300, eq. 7), which needs no network trained elsewhere.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.func import functional_call

from ...core.report.sheet import Row, sheet
from ...core.scene.pixels import to_images
from .loop import LoopRecipe, Task, hours

LATENTS = 4  # channels of the latents, as in Stable Diffusion


class Source(Protocol):
    """Where the pictures in [-1, 1] come from."""

    def batch(
        self, rng: torch.Generator, n: int, portraits: int
    ) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]:
        """``n`` pictures, the last of them so many portraits, and how much of each pixel is of a thing, 0 to 1."""

    def first(self, n: int) -> Float[Tensor, "n 3 h w"]: ...


class CriticRecipe(BaseModel):
    """How the critic takes part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(24, gt=0, description="channels of its first layer")
    start: int = Field(ge=0, description="step from which it learns")
    join: int = Field(ge=0, description="step from which the autoencoder listens")
    adversarial: float = Field(ge=0, description="weight of looking real to it")
    features: float = Field(ge=0, description="weight of the L1 distance of its features")


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
    things: float = Field(
        0.0, ge=0, description="how much more the error of a thing's pixel weighs than the background's"
    )
    portraits: float = Field(
        0.15, ge=0, le=1, description="fraction of the batch that are portraits of subjects"
    )
    measured: int = Field(0, ge=0, description="pictures whose PSNR is measured at every preview")
    critic: CriticRecipe | None = None
    loop: LoopRecipe


def edges(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w-1"], Float[Tensor, "b c h-1 w"]]:
    """Differences of neighbouring pixels, along the width and along the height."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def psnr(y: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each picture of [-1, 1], in dB."""
    return -10 * torch.log10(((y.clamp(-1, 1) - x) / 2).square().mean((1, 2, 3)))


class Critic(nn.Module):
    """Scores of overlapping patches; the last of its features are the scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 4, 2, 1),
                nn.GroupNorm(4, b) if i else nn.Identity(),
                nn.LeakyReLU(0.2),
            )
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.score = nn.Conv2d(widths[-1], 1, 3, 1, 1)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        features: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return [*features, self.score(x)]


class AutoencoderWithCritic(nn.Module):
    """What the stage trains; only the autoencoder is kept."""

    def __init__(self, recipe: VaeRecipe) -> None:
        super().__init__()
        self.autoencoder: AutoencoderKL = AutoencoderKL.from_config(recipe.model)
        self.critic = None if recipe.critic is None else Critic(recipe.critic.width)


class VaeTask(Task):
    """Reconstructs renders in [-1, 1]."""

    model: AutoencoderWithCritic

    def __init__(self, recipe: VaeRecipe, pictures: Source) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.pictures = recipe, pictures
        self.model = AutoencoderWithCritic(recipe)
        # Start with small posterior noise (deviation 0.05): at deviation 1, 300 steps went by without one sharp edge.
        with torch.no_grad():
            self.model.autoencoder.quant_conv.weight[LATENTS:] *= 0.1
            self.model.autoencoder.quant_conv.bias[LATENTS:] = -6.0

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        recipe, vae, n = self.recipe, self.model.autoencoder, self.recipe.loop.batch_size
        x, shown = (part.to(device) for part in self.pictures.batch(rng, n, round(n * recipe.portraits)))
        weight = 1 + recipe.things * shown
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample(rng)).sample.float()
        l1 = (weight * (y - x).abs()).mean()
        edge = torch.stack([part.abs().mean() for part in edges(weight * (y - x))]).mean()
        kl = posterior.kl().mean()
        mse = (weight * (y - x).square()).mean()
        color = F.mse_loss(F.avg_pool2d(y, 4), F.avg_pool2d(x, 4))
        loss = l1 + recipe.mse * mse + recipe.color * color + recipe.edge * edge + recipe.kl * kl
        losses = {"l1": l1, "color": color, "edge": edge, "kl": kl, "psnr": psnr(y.detach(), x).mean()}
        if recipe.critic is not None and step >= recipe.critic.start:
            criticism, parts = self._criticism(recipe.critic, step, x, y)
            loss, losses = loss + criticism, losses | parts
        return {"loss": loss, **losses}

    def _criticism(
        self, plan: CriticRecipe, step: int, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the critic learns from, and, from ``join`` on, what the autoencoder learns from it."""
        critic = self.model.critic
        assert critic is not None
        real, fake = critic(x)[-1].float(), critic(y.detach())[-1].float()
        learned = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        parts = {"critic": learned}
        if step < plan.join:
            return learned, parts
        fixed = {name: value.detach() for name, value in critic.named_parameters()}
        *seen, score = functional_call(critic, fixed, (y,))
        with torch.no_grad():
            *wanted, _ = critic(x)
        alike = torch.stack(
            [F.l1_loss(a.float(), b.float()) for a, b in zip(seen, wanted, strict=True)]
        ).mean()
        looks = -score.float().mean()
        parts |= {"features": alike, "adversarial": looks}
        return learned + plan.adversarial * looks + plan.features * alike, parts

    def preview(self, path: Path) -> None:
        vae = self.model.autoencoder
        device = next(vae.parameters()).device
        x = self.pictures.first(max(16, self.recipe.measured)).to(device)
        y = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in torch.split(x, 16)])
        if self.recipe.measured:
            measured = psnr(y, x)[: self.recipe.measured].mean().item()
            line = {"step": int(path.stem.split("-")[-1]), "hours": round(hours(path.parent), 3)}
            line |= {"psnr": round(measured, 3)}
            with (path.parent / "psnr.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        rows = zip(("images", "decoded", "", ""), (x[:8], y[:8], x[8:16], y[8:16]), strict=True)
        sheet([Row(label, to_images(part / 2 + 0.5)) for label, part in rows]).save(path)


def load(recipe: VaeRecipe, averaged: dict[str, Tensor]) -> AutoencoderKL:
    """The autoencoder of a run's averaged weights."""
    prefix = "autoencoder."
    vae: AutoencoderKL = AutoencoderKL.from_config(recipe.model)
    vae.load_state_dict({k.removeprefix(prefix): v for k, v in averaged.items() if k.startswith(prefix)})
    return vae
