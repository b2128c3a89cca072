"""Losses for training that ask attention to lie where the subject is: that of its words, or that to its tokens.

Subject-Diffusion, arXiv 2307.11410, section 3.3; the released code takes the form of FastComposer, arXiv 2305.10431,
equation 6, with a weight of 0.01.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from weft.plugin import Site, resize

from .gated_attention import centres

Maps = Mapping[Site, Float[Tensor, "b n t"]]
"""Cross-attention probabilities of some layers, averaged over heads."""


def mask_loss(
    maps: Maps, words: Int[Tensor, "b s k"], masks: Float[Tensor, "b s _h _w"]
) -> Float[Tensor, " b"]:
    """The paper's form: mean |CA - M| over positions, the subjects' tokens and layers, one value per sample.

    Args:
        maps: CA; a map's height and width are those of its site.
        words: positions of the tokens that stand for each subject, -1 where there is none.
        masks: M, in [0, 1]; brought to each map's size by area. A subject without one does not count.

    Returns:
        0 for a sample in which nothing counts; gradients reach the maps.
    """
    return _mean(maps, words, masks, lambda attention, inside: (attention - inside).abs().mean(dim=-1))


def balanced_loss(
    maps: Maps, words: Int[Tensor, "b s k"], masks: Float[Tensor, "b s _h _w"]
) -> Float[Tensor, " b"]:
    """The released code's form: mean attention outside the mask less the mean inside it. Arguments as `mask_loss`."""

    def difference(attention: Tensor, inside: Tensor) -> Tensor:
        return _weighted_mean(attention, 1 - inside) - _weighted_mean(attention, inside)

    return _mean(maps, words, masks, difference)


def token_loss(
    looked_at: Float[Tensor, "b n m"],
    boxes: Float[Tensor, "b m 4"],
    placed: Bool[Tensor, "b m"],
    grid: tuple[int, int],
) -> Float[Tensor, " b"]:
    """How unlikely the positions within boxes look at those boxes' tokens, and the others at tokens without one.

    Gated self-attention finds out by itself which token a position should look at, but only late: GLIGEN (arXiv
    2301.07093, section 4.1) was trained for hundreds of thousands of steps. This asks for it outright.

    Args:
        looked_at: logarithms of probabilities, see `GatedSelfAttention.looked_at`.
        boxes: of the tokens: (left, top, right, bottom) in fractions.
        placed: which tokens have a box; the others stand for nothing, or for something anywhere.
        grid: the feature map's height and width.

    Returns:
        Mean negative logarithm, positions inside and outside weighing the same; 0 where there are none.
    """
    left, top = centres(grid).to(boxes).unbind(-1)
    sides = [side[:, None] for side in boxes.unbind(-1)]  # b 1 m
    left, top = left[:, None], top[:, None]
    inside = (left >= sides[0]) & (top >= sides[1]) & (left <= sides[2]) & (top <= sides[3])
    inside &= placed[:, None]
    covered = inside.any(-1)
    wanted = torch.where(covered[..., None], inside, ~placed[:, None])
    has_target = wanted.any(-1)  # nothing to look at outside, when every token has a box
    unlikely = -looked_at.masked_fill(~wanted, -1e4).logsumexp(-1)
    both = [_weighted_mean(unlikely, (has_target & where).to(unlikely)) for where in (covered, ~covered)]
    return torch.stack(both).mean(dim=0)


def _mean(
    maps: Maps,
    words: Int[Tensor, "b s k"],
    masks: Float[Tensor, "b s _h _w"],
    score: Callable[[Float[Tensor, "b s k n"], Float[Tensor, "b s 1 n"]], Float[Tensor, "b s k"]],
) -> Float[Tensor, " b"]:
    """The mean of a score over the tokens that count, then over layers."""
    subjects = masks.shape[1]
    counts: Bool[Tensor, "b s k"] = (words >= 0) & (masks.sum((2, 3)) > 0)[..., None]
    places = rearrange(words.clamp(min=0), "b s k -> b 1 (s k)")
    layers = []
    for site, attention in maps.items():
        attended = attention.gather(2, places.expand(-1, attention.shape[1], -1))
        attended = rearrange(attended, "b n (s k) -> b s k n", s=subjects)
        small = resize(rearrange(masks, "b s h w -> (b s) h w"), site.grid)
        inside = rearrange(small, "(b s) h w -> b s 1 (h w)", s=subjects).to(attended)
        scores = score(attended, inside).masked_fill(~counts, 0.0)
        layers.append(scores.sum((1, 2)) / counts.sum((1, 2)).clamp(min=1))
    return torch.stack(layers).mean(dim=0) if layers else masks.new_zeros(len(masks))


def _weighted_mean(values: Float[Tensor, "... n"], weights: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    # a subject may fill the image, and leave no background to average over
    return (values * weights).sum(dim=-1) / weights.sum(dim=-1).clamp(min=1e-3)
