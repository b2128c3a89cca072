"""Latents of every picture, encoded once, and the factor that gives them unit deviation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.lib.format import open_memmap
from pydantic import BaseModel, ConfigDict

from .loop import averaged
from .pictures import Pictures
from .vae import VaeRecipe, load


class LatentsRecipe(BaseModel):
    """Recipe of the stage ``latents``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = 64


def load_vae(recipe: VaeRecipe, run: Path) -> AutoencoderKL:
    """The autoencoder with the averaged weights of ``run``, frozen."""
    return load(recipe, averaged(run)).eval().requires_grad_(False)


def build(recipe: LatentsRecipe, vae: AutoencoderKL, pictures: Pictures, out: Path) -> None:
    """Write latents.npy, scaled, float16 [n, 4, 16, 16], and latents.json with the scaling factor, to ``out``.

    The mean of the posterior is kept: with a KL of 1e-6 its deviation is far below that of the latents.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = vae.to(device)
    file = None
    scale = spread = 1.0
    with torch.no_grad():
        for start in range(0, len(pictures), recipe.batch_size):
            index = torch.arange(start, min(start + recipe.batch_size, len(pictures)))
            posterior = vae.encode(pictures.at(index).to(device)).latent_dist
            mean = posterior.mean
            if file is None:
                shape = (len(pictures), *mean.shape[1:])
                file = open_memmap(out / "latents.npy", "w+", dtype=np.float16, shape=shape)
                several = vae.encode(
                    pictures.at(torch.arange(min(1024, len(pictures)))).to(device)
                ).latent_dist
                scale, spread = 1 / several.mean.std().item(), several.std.mean().item()
            file[start : start + len(index)] = (mean * scale).half().cpu().numpy()
    assert file is not None
    file.flush()
    facts = {"scaling_factor": scale, "posterior_std": spread * scale, "pictures": len(pictures)}
    (out / "latents.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
