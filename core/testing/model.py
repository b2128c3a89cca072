"""Small random models of Stable Diffusion 1.x's shape, for tests that ask about arithmetic and not about images."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from ..checkpoints.tokenizer import read_tokenizer
from ..load import load
from ..pipeline import Pipeline

UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}

# what Stable Diffusion 1.x ships; clip_sample is read by DDIM
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}


def random_unet(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    """A UNet with cross-attention at two sizes; the global random state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DConditionModel(**{**UNET, **changes}).eval()


def random_model(folder: Path, **unet: Any) -> Path:
    """Write a whole model in diffusers layout: 8x8 latents of 32x32 pixels, CLIP's own tokenizer, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            norm_num_groups=8,
        )
        size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **size))
    scheduler = PNDMScheduler.from_config(SCHEDULER)
    whole = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=read_tokenizer(folder / "tokenizer"),
        unet=random_unet(**unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    whole.save_pretrained(folder)
    return folder


@functools.cache
def random_pipeline() -> Pipeline:
    """`random_model`, loaded once a process."""
    with tempfile.TemporaryDirectory() as folder:
        return load(random_model(Path(folder)), device="cpu")
