"""The three networks of the judge: a centre-point detector, an embedding of crops and a labelling of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 64
"""Side of the pictures that the networks see, in pixels; larger ones are reduced by area."""
STRIDE = 4
CELLS = SIZE // STRIDE
"""Cells per side of the detector's maps."""
CROP = 48
"""Side of a crop that is embedded, in pixels."""
CONTEXT = 1.15
"""Side of a crop over the longer side of its box."""


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU(inplace=True)
    )


def _doubled(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


@final
class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(channels, channels), _block(channels, channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        out: Tensor = x + self.body(x)
        return out


@dataclass(frozen=True)
class Maps:
    """What the detector says of every cell. ``b`` pictures, maps of ``CELLS`` x ``CELLS``, logits throughout.

    Args:
        nouns: centre-ness by noun [b, nouns, h, w].
        boxes: centre offset (x, y) from the cell's centre and log of width and height, in cells [b, 4, h, w].
        colors: [b, colors, h, w].
        patterns: [b, patterns, h, w].
        background: [b, backgrounds].
    """

    nouns: Float[Tensor, "b nouns h w"]
    boxes: Float[Tensor, "b 4 h w"]
    colors: Float[Tensor, "b colors h w"]
    patterns: Float[Tensor, "b patterns h w"]
    background: Float[Tensor, "b backgrounds"]


@final
class Detector(nn.Module):
    """Objects as points (CenterNet, arXiv 1904.07850): what is at a cell, if an object has its centre there.

    Args:
        counts: how many nouns, colours, patterns and backgrounds there are.
    """

    def __init__(self, counts: tuple[int, int, int, int]) -> None:
        super().__init__()
        nouns, colors, patterns, backgrounds = counts
        self.split = (nouns, 4, colors, patterns)
        self.stem = nn.Sequential(_block(3, 32, 2), _Residual(32))
        self.quarter = nn.Sequential(_block(32, 64, 2), _Residual(64), _Residual(64))
        self.eighth = nn.Sequential(_block(64, 80, 2), _Residual(80))
        self.sixteenth = nn.Sequential(_block(80, 80, 2), _Residual(80))
        self.up = _block(80, 64)
        self.merge = _block(64, 64)
        self.attributes = nn.Sequential(_block(64, 64), nn.Conv2d(64, 4 + colors + patterns, 1))
        self.centres = nn.Sequential(_block(64, 48), nn.Conv2d(48, nouns, 1))
        self.background = nn.Linear(64 + 80, backgrounds)
        bias = self.centres[-1].bias
        assert isinstance(bias, Tensor)
        nn.init.constant_(bias, -4.0)  # few cells are centres (arXiv 1708.02002, 4.1)

    def forward(self, images: Float[Tensor, "b 3 64 64"]) -> Maps:
        """Maps of pictures in [0, 1]."""
        fine = self.quarter(self.stem(images * 2 - 1))
        coarse = self.eighth(fine)
        deep = self.sixteenth(coarse)
        coarse = coarse + _doubled(deep)
        x = self.merge(fine + _doubled(self.up(coarse)))
        boxes, colors, patterns = self.attributes(x).split(self.split[1:], dim=1)
        pooled = torch.cat([fine.mean((2, 3)), deep.mean((2, 3))], dim=1)
        return Maps(self.centres(x), boxes, colors, patterns, self.background(pooled))


@final
class Embedder(nn.Module):
    """A direction for the looks of a subject: crops of one subject point one way, whatever its pose.

    Args:
        dimensions: of the embedding.
    """

    def __init__(self, dimensions: int = 96) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, 32, 2), _Residual(32),
            _block(32, 64, 2), _Residual(64),
            _block(64, 96, 2), _Residual(96),
            _block(96, 128, 2),
        )  # fmt: skip
        self.out = nn.Linear(128 * 2, dimensions)

    def forward(self, crops: Float[Tensor, "n 3 48 48"]) -> Float[Tensor, "n d"]:
        """Unit vectors of crops in [0, 1]."""
        x = self.body(crops * 2 - 1)
        return F.normalize(self.out(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)).float(), dim=1)


@final
class Segmenter(nn.Module):
    """What every pixel shows: down to a sixteenth of the picture and up again (U-Net, arXiv 1505.04597), with sums
    for skips. The finest maps have the pixels of 2 x 2 as channels (arXiv 1609.05158), which costs a quarter.

    Args:
        classes: the background and the nouns.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.pairs = nn.Sequential(_block(3 * 4, 32), _block(32, 32))
        self.quarter = nn.Sequential(_block(32, 48, 2), _Residual(48))
        self.eighth = nn.Sequential(_block(48, 52, 2), _Residual(52))
        self.sixteenth = nn.Sequential(_block(52, 52, 2), _block(52, 52))
        self.to_quarter = _block(52, 48)
        self.to_pairs = _block(48, 32)
        self.out = nn.Sequential(_block(32, 32), nn.Conv2d(32, classes * 4, 1))

    def forward(self, images: Float[Tensor, "b 3 64 64"]) -> Float[Tensor, "b classes 64 64"]:
        """Logits of pictures in [0, 1]."""
        fine = self.pairs(F.pixel_unshuffle(images * 2 - 1, 2))  # b c 32 32
        quarter = self.quarter(fine)
        eighth = self.eighth(quarter)
        eighth = eighth + _doubled(self.sixteenth(eighth))
        quarter = quarter + _doubled(self.to_quarter(eighth))
        fine = fine + _doubled(self.to_pairs(quarter))
        return F.pixel_shuffle(self.out(fine), 2)


def cut(
    images: Float[Tensor, "n 3 h w"],
    boxes: Float[Tensor, "n 4"],
    context: float | Float[Tensor, "n"] = CONTEXT,
) -> Float[Tensor, "n 3 48 48"]:
    """A square crop around each box.

    Args:
        images: one picture per box.
        boxes: (left, top, right, bottom) in fractions of the picture.
        context: side of the crop over the longer side of the box.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) - 1  # n 2, in grid_sample's [-1, 1]
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1) * context
    ticks = (torch.arange(CROP, device=images.device) + 0.5) * 2 / CROP - 1
    steps = ticks[None] * side[:, None]  # n s
    x = (centre[:, :1] + steps)[:, None, :].expand(-1, CROP, -1)
    y = (centre[:, 1:] + steps)[:, :, None].expand(-1, -1, CROP)
    grid = torch.stack([x, y], dim=-1)  # n s s 2
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def fit(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 64 64"]:
    """Pictures reduced by area to the size that the networks know.

    Raises:
        ValueError: they are no square of 64 pixels times a whole number.
    """
    height, width = images.shape[-2:]
    if images.ndim != 4 or images.shape[1] != 3 or height != width or height % SIZE:
        raise ValueError(
            f"the judge reads [b, 3, n*{SIZE}, n*{SIZE}] pictures in [0, 1], not {tuple(images.shape)}"
        )
    return images.float() if height == SIZE else F.avg_pool2d(images.float(), height // SIZE)
