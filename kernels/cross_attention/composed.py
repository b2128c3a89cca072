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
    groups: Float[Tensor, "p c t"] | None = None,
    rows: slice = slice(None),
    every_token: bool = False,
) -> tuple[Float[Tensor, "r n h d"], Float[Tensor, "p h n c"] | None]:
    """As `reference`, in the query's own type. Differentiable in everything.

    The output takes the fused attention whether or not maps are captured, so that looking changes no bit of it; the
    probabilities are computed a second time, and only for the rows that are looked at.

    Args:
        query, segments, regions, groups, rows: as in `reference`.
        every_token: capture each token of the first segment by itself, in place of groups.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, segments.key, segments.value))  # r h n d
    out: Tensor | None = None
    for number, (start, stop) in enumerate(segments):
        bias = None if regions is None else regions.dense(start, stop)
        part = F.scaled_dot_product_attention(
            q, k[:, :, start:stop], v[:, :, start:stop], attn_mask=None if bias is None else bias.to(q.dtype)
        )
        if segments.weights is not None and segments.weighted[number]:
            part = part * segments.weights[number].to(part)[:, None, :, None]
        out = part if out is None else out + part
    assert out is not None
    if groups is None and not every_token:
        return out.transpose(1, 2), None

    first, last = span(rows, len(query))
    seen = []
    for start, stop in segments if not every_token else [(0, segments.lengths[0])]:
        scores = q[first:last] @ k[first:last, :, start:stop].transpose(-1, -2) * q.shape[-1] ** -0.5
        bias = None if regions is None else regions.dense(start, stop)
        seen.append((scores if bias is None else scores + bias[first:last].to(scores)).softmax(dim=-1))
    if groups is None:
        return out.transpose(1, 2), seen[0]
    kept = torch.cat(seen, dim=-1)[..., : groups.shape[-1]]
    return out.transpose(1, 2), kept @ groups.to(kept)[:, None].transpose(-1, -2)
