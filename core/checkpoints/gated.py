"""UNets that carry the weights of a conditioner in them, as diffusers' folders of GLIGEN do. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..storage.strict_json import read_config

T = TypeVar("T")
GATED = ("gated", "gated-text-image")
"""Values of a UNet's ``attention_type`` in diffusers that add gated attention to every block."""


def unet_configuration(model: Path) -> dict[str, Any]:
    """The configuration of a folder's UNet, as it is without a conditioner's weights.

    Raises:
        UserError: it cannot be read.
    """
    config = read_config(model / "unet" / "config.json")
    return {**config, "attention_type": "default"} if config.get("attention_type") in GATED else config


def holds_grounding(model: Path) -> bool:
    """Whether the files of a folder's UNet hold gated attention too."""
    config = model / "unet" / "config.json"
    return config.is_file() and read_config(config).get("attention_type") in GATED


def without_grounding(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of the UNet alone; `position_net` and the blocks' `fuser` belong to gated attention."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("position_net.") and ".fuser." not in name
    }
