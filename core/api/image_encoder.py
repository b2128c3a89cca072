"""Image towers: from reference images to features, with open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float
from open_clip.model import CLIP
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import Tensor, nn

from ..checkpoints.tensors import fill_module, read_config, read_tensors
from ..errors import UserError, did_you_mean

FOLDER = "open_clip"
"""Where a model folder keeps its own image tower: ``open_clip_config.json`` and ``open_clip_model.safetensors``."""

CONFIG = "open_clip_config.json"

ARCHITECTURE = "ViT-L-14-quickgelu"
"""Stable Diffusion 1.x's CLIP. OpenAI trained it with the quick GELU, which open_clip's plain "ViT-L-14" lacks."""


@dataclass(frozen=True)
class ImageFeatures:
    """What an image tower sees in some images.

    Args:
        pooled: one vector an image, in the space that images and captions share.
        patches: one vector a patch, row by row, without the class token.
    """

    pooled: Float[Tensor, "n e"]
    patches: Float[Tensor, "n p w"]


class ImageTower:
    """The frozen image tower of an open_clip model.

    Args:
        visual: open_clip's.
        preprocess: open_clip's ``preprocess_cfg``.
    """

    def __init__(self, visual: VisionTransformer, preprocess: dict[str, Any]) -> None:
        self._visual: nn.Module = visual.eval().requires_grad_(False)
        self._visual.output_tokens = True
        self._transform = open_clip.image_transform(visual.image_size, is_train=False, **preprocess)

    @property
    def width(self) -> int:
        """Channels of the pooled features."""
        return int(self._visual.output_dim)  # type: ignore[arg-type]

    def pixels(self, images: Sequence[Image.Image]) -> Float[Tensor, "n 3 h w"]:
        """Images of any size as the tower reads them."""
        device = next(self._visual.parameters()).device
        return torch.stack([self._transform(image) for image in images]).to(device)

    @torch.no_grad()
    def __call__(self, pixels: Float[Tensor, "n 3 h w"]) -> ImageFeatures:
        """Features of preprocessed images."""
        pooled, patches = self._visual(pixels.to(next(self._visual.parameters()).dtype))
        return ImageFeatures(pooled, patches)


def load_tower(weights: Path, config: str | Path, device: torch.device, dtype: torch.dtype) -> ImageTower:
    """The image tower of a local open_clip checkpoint; kept, until the file changes.

    Args:
        weights: a ``.safetensors`` file whose image tower's tensors begin with ``visual.``.
        config: an ``open_clip_config.json``, or the name of an architecture that open_clip knows (`ARCHITECTURE`).
        device: where it runs.
        dtype: of its parameters.

    Raises:
        UserError: there is no such file or architecture, it is no vision transformer, or its tensors do not fit.
    """
    changed = weights.stat().st_mtime_ns if weights.is_file() else 0
    return _loaded(weights, changed, config, device, dtype)


@lru_cache(maxsize=2)
def _loaded(
    weights: Path, changed: int, config: str | Path, device: torch.device, dtype: torch.dtype
) -> ImageTower:
    model, preprocess = _described(config)
    wanted = "an open_clip model with a vision transformer"
    place = f"image encoder '{config if isinstance(config, str) else config.name}'"
    try:
        with torch.device("meta"):
            visual: Any = CLIP(**model).visual
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(place, wanted, f"something else ({error})") from None
    if not isinstance(visual, VisionTransformer):
        raise UserError(place, wanted, f"a tower of type {type(visual).__name__}")
    tensors = {
        name.removeprefix("visual."): tensor
        for name, tensor in read_tensors(weights).items()
        if name.startswith("visual.")
    }
    fill_module(visual, tensors, f"image encoder '{weights.name}'", dtype)
    return ImageTower(visual.to(device), preprocess)


def _described(config: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if isinstance(config, Path):
        described = read_config(config)
        fields = described.get("model_cfg"), described.get("preprocess_cfg")
        if not all(isinstance(field, dict) for field in fields):
            raise UserError(
                f"file '{config}'", "the objects 'model_cfg' and 'preprocess_cfg'", str(sorted(described))
            )
        model, preprocess = fields
        known = ("mean", "std", "interpolation", "resize_mode")
        return model, {name: preprocess[name] for name in known if name in preprocess}  # type: ignore[return-value, index, operator]
    names = open_clip.list_models()
    if config not in names:  # asked for anything else, open_clip may look on the hub
        raise UserError(
            "field 'architecture'", "an open_clip architecture", f"'{config}'", did_you_mean(config, names)
        )
    return open_clip.get_model_config(config), {}
