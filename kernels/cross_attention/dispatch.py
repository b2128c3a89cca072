"""Picks an implementation by device, type and shape, after checking what it was given."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..device import has_triton
from ..errors import KernelError
from .call import Call
from .composed import composed
from .inputs import Regions, Segments, check, check_finite, span
from .launch import LARGEST_GROUPS, LARGEST_HEAD
from .op import cross_attention as fused
from .reference import reference

Implementation = Literal["auto", "fused", "composed", "reference"]


def cross_attention(
    query: Float[Tensor, "r n h d"],
    segments: Segments,
    regions: Regions | None = None,
    groups: Float[Tensor, "p c t"] | None = None,
    rows: slice = slice(None),
    *,
    every_token: bool = False,
    finite: bool = False,
    implementation: Implementation = "auto",
) -> tuple[Float[Tensor, "r n h d"], Float[Tensor, "p h n c"] | None]:
    """Attend to every segment with a softmax of its own, and add the results up by their weights.

    Args:
        query: of any row, position, head and size of head; the scores are scaled by ``d ** -0.5``.
        segments: keys and values.
        regions: added to the scores before the softmax.
        groups: token groups to capture: the maps are ``sum over t of groups[p, c, t] * probability[p, h, n, t]``.
            Tokens past its last axis are in no group.
        rows: whose maps are captured; ``p`` of them.
        every_token: capture each token of the first segment by itself, in place of ``groups``.
        finite: query and key are known to be finite. Otherwise they are looked at, but only on a CPU and outside a
            compiled graph: on a GPU the answer would have to be waited for.
        implementation: for tests and benchmarks; see `uses_kernel` for what "auto" picks.

    Returns:
        The output, and the maps or None. Differentiable in the query, also through the maps, and, except with
        "fused", in everything else.

    Raises:
        KernelError: a shape, type, device or number does not fit; before anything is launched.
    """
    check(query, segments, regions, groups, rows)
    if every_token and groups is not None:
        raise KernelError("cross_attention, argument 'groups'", "groups or every token", "both")
    if not finite and query.device.type == "cpu" and not torch.compiler.is_compiling():
        check_finite(query, segments.key)
    if implementation == "auto":
        implementation = "fused" if uses_kernel(query, segments, regions, groups, every_token) else "composed"
    if implementation == "composed":
        return composed(query, segments, regions, groups, rows, every_token)
    if every_token:
        first, last = span(rows, len(query))
        tokens = segments.lengths[0]
        groups = torch.eye(tokens, dtype=query.dtype, device=query.device).expand(last - first, -1, -1)
    if implementation == "reference":
        return reference(query, segments, regions, groups, rows)
    out, maps = fused(*Call.of(query, segments, regions, groups, rows).arguments)
    return out, None if groups is None else maps


def uses_kernel(
    query: Tensor,
    segments: Segments,
    regions: Regions | None = None,
    groups: Tensor | None = None,
    every_token: bool = False,
) -> bool:
    """Whether "auto" takes the Triton kernel.

    It does on CUDA, in 16 or 32 bits, for heads of at most 256 and at most 128 groups, where there is more to do than
    one plain attention (PyTorch's own is at least as fast there), and where no gradient is wanted but the query's.
    """
    captured = segments.lengths[0] if every_token else 0 if groups is None else groups.shape[1]
    others = [segments.key, segments.value, segments.weights, groups]
    if regions is not None:
        others += [regions.space, regions.tokens]
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and query.shape[-1] <= LARGEST_HEAD
        and captured <= LARGEST_GROUPS
        and (len(segments.lengths) > 1 or regions is not None or captured > 0)
        and not (torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in others))
        and has_triton()
    )
