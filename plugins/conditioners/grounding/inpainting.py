"""The widened first convolution of grounded inpainting, as input channels and a weight delta."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from weft.plugin import WeightDelta


class WidenedInput(nn.Module):
    """``conv_in`` of an inpainting model: noisy latents, latents of what is kept, and the mask of what is kept.

    As a module it is the convolution of the further channels alone; what training changed of the first ones is a
    weight delta, so that the UNet itself stays as it is.

    Args:
        conv_in: the UNet's own ``conv_in``.
    """

    def __init__(self, conv_in: nn.Conv2d) -> None:
        super().__init__()
        self._conv_in = (conv_in,)  # in a tuple, so that it is no submodule
        out, own, *kernel = conv_in.weight.shape
        self.weight = nn.Parameter(torch.empty(out, 2 * own + 1, *kernel))
        self.bias = nn.Parameter(torch.empty(out))
        self._frozen: tuple[WeightDelta, ...] | None = None

    @torch.no_grad()
    def reset(self) -> None:
        """Make it the UNet's own convolution, with zeros for the further channels."""
        (conv_in,) = self._conv_in
        own = conv_in.weight.shape[1]
        self.weight.zero_()
        self.weight[:, :own] = conv_in.weight
        self.bias.copy_(_bias(conv_in))

    def forward(self, channels: Float[Tensor, "r k h w"]) -> Float[Tensor, "r c h w"]:
        """What the further channels add to the output of the UNet's own ``conv_in``."""
        (conv_in,) = self._conv_in
        weight = self.weight[:, conv_in.weight.shape[1] :]
        bias = self.bias - _bias(conv_in).to(self.bias)
        return F.conv2d(channels, weight, bias, conv_in.stride, conv_in.padding)

    def deltas(self) -> tuple[WeightDelta, ...]:
        """What training changed of the noisy latents' own weights; gradients reach the parameter.

        Frozen ones give the same objects every time, by which the rows of a batch are gathered.
        """
        if self.weight.requires_grad:
            return (self._delta(),)
        if self._frozen is None:
            self._frozen = (self._delta(),)
        return self._frozen

    def _delta(self) -> WeightDelta:
        (conv_in,) = self._conv_in
        return WeightDelta(
            "conv_in", self.weight[:, : conv_in.weight.shape[1]] - conv_in.weight.to(self.weight)
        )


def _bias(convolution: nn.Conv2d) -> Tensor:
    bias = convolution.bias
    return convolution.weight.new_zeros(convolution.out_channels) if bias is None else bias
