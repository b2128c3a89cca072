"""A small random image tower, for tests of plugins that read reference images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from ..api.image_encoder import FOLDER

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 32, "layers": 2, "head_width": 8},
        "text_cfg": {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}


def random_tower(folder: Path) -> Path:
    """Write an image tower into a model's folder: images of 16 pixels, 16 patches, pooled features of 24 channels.

    Args:
        folder: of a model in diffusers layout.

    Returns:
        The checkpoint, beside its ``open_clip_config.json``.
    """
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(**CONFIG["model_cfg"])
    (place / "open_clip_config.json").write_text(json.dumps(CONFIG))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        place / "open_clip_model.safetensors",
    )
    return place / "open_clip_model.safetensors"
