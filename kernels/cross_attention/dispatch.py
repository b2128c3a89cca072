"""Picks an implementation by device, type and shape, after checking what it was given."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..device import has_triton
from .call import Call
from .composed import composed
from .inputs import Regions, Segments, check, check_finite
from .launch import LARGEST_HEAD
from .op import cross_attention as fused
from .reference import reference

Implementation = Literal["auto", "fused", "composed", "reference"]


def cross_attention(
    query: Float[Tensor, "r n h d"],
    segments: Segments,
    regions: Regions | None = None,
    rows: slice = slice(None),
    *,
    capture: bool = False,
    finite: bool = False,
    implementation: Implementation = "auto",
) -> tuple[Float[Tensor, "r n h d"], Float[Tensor, "p h n t"] | None]:
    """Attend to every segment with a softmax of its own, and add the results up by their weights.

    Args:
        query: of any row, position, head and size of head; the scores are scaled by ``d ** -0.5``.
        segments: keys and values.
        regions: added to the scores before the softmax.
        rows: whose maps are captured; ``p`` of them.
        capture: also give the maps: the probabilities of the first segment's tokens.
        finite: query and key are known to be finite. Otherwise they are looked at, but only on a CPU and outside a
            compiled graph: on a GPU the answer would have to be waited for.
        implementation: for tests and benchmarks; see `uses_kernel` for what "auto" picks.

    Returns:
        The output, and the maps or None. Differentiable in the query, also through the maps, and, except with
        "fused", in everything else.

    Raises:
        KernelError: a shape, type, device or number does not fit; before anything is launched.
    """
    check(query, segments, regions, rows)
    if not finite and query.device.type == "cpu" and not torch.compiler.is_compiling():
        check_finite(query, segments.key)
    if implementation == "auto":
        implementation = "fused" if uses_kernel(query, segments, regions, capture) else "composed"
    if implementation == "composed":
        return composed(query, segments, regions, rows, capture)
    if implementation == "reference":
        return reference(query, segments, regions, rows, capture)
    out, maps = fused(*Call.of(query, segments, regions, rows, capture).arguments)
    return out, maps if capture else None


def uses_kernel(
    query: Tensor,
    segments: Segments,
    regions: Regions | None = None,
    capture: bool = False,
) -> bool:
    """Whether "auto" takes the Triton kernel.

    It does on CUDA, in 16 or 32 bits, for heads of at most 256, where there is more to do than one plain attention
    (PyTorch's own is at least as fast there), and where no gradient is wanted but the query's.
    """
    others = [segments.key, segments.value, segments.weights]
    if regions is not None:
        others += [regions.space, regions.tokens]
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and query.shape[-1] <= LARGEST_HEAD
        and (len(segments.lengths) > 1 or regions is not None or capture)
        and not (torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in others))
        and has_triton()
    )
