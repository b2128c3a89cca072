"""The trained part of `mask_location`: a convolution for the mask channel, and low-rank deltas of the UNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from weft.plugin import Grid, LowRank, WeightDelta, fill_module, resize


class MaskLocationNetworks(nn.Module):
    """A fifth input channel for a frozen UNet (Subject-Diffusion, arXiv 2307.11410, section 3.2).

    The convolution's output is added to that of ``conv_in``: together they are one ``conv_in`` with a channel more. The
    deltas stand for what the paper trains in the UNet itself, and are there only where a mask is. Tensors are named
    ``convolution.weight``, ``convolution.bias`` and ``unet.<path of a layer>.lora_A`` / ``.lora_B``.

    Args:
        conv_in: of the UNet; only its sizes are read.
        unet: the deltas; they may be of no layer.
    """

    def __init__(self, conv_in: nn.Conv2d, unet: LowRank) -> None:
        super().__init__()
        # the bias sets a mask that is zero everywhere, a subject that fills the image, apart from no mask at all
        place: dict[str, Any] = {"stride": conv_in.stride, "padding": conv_in.padding}
        self.convolution = nn.Conv2d(1, conv_in.out_channels, conv_in.kernel_size, **place)  # type: ignore[arg-type]
        nn.init.zeros_(self.convolution.weight)
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)
        self.unet = unet

    @classmethod
    def create(cls, unet: Any, rank: int = 0, paths: str = "") -> MaskLocationNetworks:
        """New ones, in float32 on the CPU, which change nothing yet.

        Args:
            unet: a diffusers UNet; it is only read.
            rank: of the deltas; 0 is without them.
            paths: a regular expression that is found in the paths of the layers to change; all by default.
        """
        return cls(unet.conv_in, LowRank.matching(unet, paths, rank))

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        unet: Any,
        place: str = "weights of 'mask_location'",
        dtype: torch.dtype = torch.float32,
    ) -> MaskLocationNetworks:
        """Those of a file; the deltas' layers and ranks follow from the tensors.

        Raises:
            UserError: a tensor is missing, left over or of another shape; it names the tensor and both shapes.
        """
        with torch.device("meta"):
            networks = cls(unet.conv_in, LowRank.like(unet, tensors, "unet."))
        fill_module(networks, tensors, place, dtype)
        return networks.eval()

    def deltas(self) -> tuple[WeightDelta, ...]:
        """The port entries; gradients reach the parameters."""
        return self.unet.deltas()


def at_grid(
    regions: Float[Tensor, "b s _h _w"], grid: Grid, how: Literal["nearest", "area"]
) -> Float[Tensor, "b s h w"]:
    """Regions of the whole image at the latents' size.

    Args:
        regions: 1 inside a subject, 0 outside.
        grid: (height, width) of the latents.
        how: the value at the centre of every position, or the share of it that is covered.
    """
    if how == "area":
        flat = resize(rearrange(regions, "b s h w -> (b s) h w"), grid)
        return rearrange(flat, "(b s) h w -> b s h w", b=len(regions))
    return F.interpolate(regions, size=grid, mode="nearest-exact")


def background(regions: Float[Tensor, "b s h w"], known: Bool[Tensor, "b s"]) -> Float[Tensor, "b 1 h w"]:
    """The mask channel: 1 where the background is, 0 inside a subject; several subjects multiply.

    Args:
        regions: 1 inside a subject, 0 outside, at the latents' size.
        known: which subjects there are; the others' regions are not read.
    """
    outside = 1.0 - regions.masked_fill(~known[..., None, None], 0.0)
    return outside.prod(dim=1, keepdim=True)
