"""The same from PyTorch's fused attention, a call for each segment: the fastest exact way on a CPU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .inputs import Regions, Segments, span


def composed(
    query: Float[Tensor, "r n h d"],
    segments: Segments,
    regions: Regions | None = None,
    rows: slice = slice(None),
    capture: bool = False,
) -> tuple[Float[Tensor, "r n h d"], Float[Tensor, "p h n t"] | None]:
    """As `reference`, in the query's own type. Differentiable in everything.

    The output takes the fused attention whether or not maps are captured, so that looking changes no bit of it, and the
    probabilities are computed a second time, for the rows that are captured. Where a gradient of every row's maps is
    wanted they make the output too: the fused attention's own backward pass would go the same way once more.

    Args:
        query, segments, regions, rows, capture: as in `reference`.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, segments.key, segments.value))  # r h n d
    first, last = span(rows, len(query))
    through_maps = capture and torch.is_grad_enabled() and q.requires_grad and last - first == len(q)

    out: Tensor | None = None
    maps: Tensor | None = None
    for number, (start, stop) in enumerate(segments):
        bias = None if regions is None else regions.dense(start, stop)
        key, value = k[:, :, start:stop], v[:, :, start:stop]
        if capture and number == 0:
            scores = q[first:last] @ key[first:last].transpose(-1, -2) * q.shape[-1] ** -0.5
            maps = (scores if bias is None else scores + bias[first:last].to(scores)).softmax(dim=-1)
        if maps is not None and number == 0 and through_maps:
            part = maps @ value
        else:
            mask = None if bias is None else bias.to(q.dtype)
            part = F.scaled_dot_product_attention(q, key, value, attn_mask=mask)
        if segments.weights is not None and segments.weighted[number]:
            part = part * segments.weights[number].to(part)[:, None, :, None]
        out = part if out is None else out + part
    assert out is not None
    return out.transpose(1, 2), maps
