"""Where the transformer blocks of a diffusers UNet stand: in which order they run, and on which feature map."""

from __future__ import annotations

import math
from typing import Any


def cross_attention_paths(unet: Any) -> dict[str, Any]:
    """Every cross-attention layer by its transformer block's path, in the order in which the UNet runs them."""
    layers = {
        name.removesuffix(".attn2"): layer for name, layer in unet.named_modules() if name.endswith(".attn2")
    }
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    return dict(sorted(layers.items(), key=lambda item: order[item[0].split(".", 1)[0]]))


def paths_of_size(unet: Any, latent_size: tuple[int, int], positions: int) -> frozenset[str]:
    """The blocks whose feature maps have the finest size of at most so many positions; else of the coarsest size.

    Args:
        unet: of diffusers.
        latent_size: (height, width) of its latents.
        positions: at most so many.
    """
    last = len(unet.config["block_out_channels"]) - 1
    depth = {path: _depth(path, last) for path in cross_attention_paths(unet)}
    # the middle block alone is a single layer, too few to average
    levels = sorted({level for path, level in depth.items() if not path.startswith("mid_block")})
    for level in levels or [last]:
        chosen = frozenset(path for path in depth if depth[path] == level)
        if math.prod(-(-side // 2**level) for side in latent_size) <= positions:
            break
    return chosen


def _depth(path: str, last: int) -> int:
    """How many times the feature map at this block has been halved."""
    kind, number = path.split(".")[:2]
    if kind == "mid_block":
        return last
    return int(number) if kind == "down_blocks" else last - int(number)
