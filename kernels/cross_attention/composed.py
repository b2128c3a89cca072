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

    The output takes the fused attention whether or not maps are captured, so that looking changes no bit of it, and the
    probabilities are computed a second time, for the rows that are looked at. Where a gradient of every row's maps is
    wanted they make the output too: the fused attention's own backward pass would go the same way once more.

    Args:
        query, segments, regions, groups, rows: as in `reference`.
        every_token: capture each token of the first segment by itself, in place of groups.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, segments.key, segments.value))  # r h n d
    first, last = span(rows, len(query))
    looked = groups is not None or every_token
    through_maps = looked and torch.is_grad_enabled() and q.requires_grad and last - first == len(q)

    out: Tensor | None = None
    seen: list[Tensor] = []
    for number, (start, stop) in enumerate(segments):
        bias = None if regions is None else regions.dense(start, stop)
        key, value = k[:, :, start:stop], v[:, :, start:stop]
        captured = looked and (number == 0 or not every_token)
        if captured:
            scores = q[first:last] @ key[first:last].transpose(-1, -2) * q.shape[-1] ** -0.5
            seen.append((scores if bias is None else scores + bias[first:last].to(scores)).softmax(dim=-1))
        if captured and through_maps:
            part = seen[-1] @ value
        else:
            mask = None if bias is None else bias.to(q.dtype)
            part = F.scaled_dot_product_attention(q, key, value, attn_mask=mask)
        if segments.weights is not None and segments.weighted[number]:
            part = part * segments.weights[number].to(part)[:, None, :, None]
        out = part if out is None else out + part
    assert out is not None
    if groups is None:
        return out.transpose(1, 2), seen[0] if every_token else None
    kept = torch.cat(seen, dim=-1)[..., : groups.shape[-1]]
    return out.transpose(1, 2), kept @ groups.to(kept)[:, None].transpose(-1, -2)
