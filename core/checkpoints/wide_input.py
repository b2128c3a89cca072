"""UNets whose first convolution reads more than the latents, as those that were made to inpaint or to edit do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

WEIGHT = "conv_in.weight"


def narrowed(
    tensors: Mapping[str, Tensor], channels: int
) -> tuple[dict[str, Tensor], Float[Tensor, "out more _k _l"] | None]:
    """A UNet's tensors as those of one that reads the latents alone, and the weights of what it reads beside them.

    The latents come first, as in every pipeline of diffusers. Both convolutions' outputs together are that of the wide
    one, which is linear.

    Args:
        tensors: of the UNet.
        channels: of the latents.

    Returns:
        The tensors; and the other weights, or None where there are none.
    """
    weight = tensors.get(WEIGHT)
    if weight is None or weight.ndim != 4 or weight.shape[1] <= channels:
        return dict(tensors), None
    return {**tensors, WEIGHT: weight[:, :channels].clone()}, weight[:, channels:].clone()


def convolution(weight: Float[Tensor, "out more k l"], like: nn.Conv2d) -> nn.Conv2d:
    """The part of a wide convolution that reads what comes beside the latents; the other part has the bias.

    Args:
        weight: of it.
        like: the other part.
    """
    place: dict[str, Any] = {"kernel_size": weight.shape[2:], "stride": like.stride, "padding": like.padding}
    with torch.device("meta"):
        part = nn.Conv2d(weight.shape[1], weight.shape[0], **place, bias=False)
    part.weight = nn.Parameter(weight.to(like.weight.device, like.weight.dtype), requires_grad=False)
    return part
