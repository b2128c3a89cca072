"""Picks an implementation by device and type, after checking what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..device import has_triton
from .adapter import Adapter, check
from .call import Call
from .composed import composed
from .launch import MOST, pieces
from .op import low_rank as fused
from .reference import reference

Implementation = Literal["auto", "fused", "composed", "reference"]


def low_rank(
    x: Float[Tensor, "r n i"],
    base: Float[Tensor, "r n o"],
    adapters: Sequence[Adapter],
    *,
    implementation: Implementation = "auto",
) -> Float[Tensor, "r n o"]:
    """Add ``sum over k of strength_k[row] * mask_k[row, position] * B_k A_k x`` to what a layer has computed.

    Where a strength or a mask is 0 the output is ``base``, also where A x overflows; a mask of ones is no mask.

    Args:
        x: what went into the layer, of every row and position.
        base: what came out of it.
        adapters: at least one; their ranks may differ.
        implementation: for tests and benchmarks; see `uses_kernel` for what "auto" picks.

    Returns:
        The changed output, in the type of ``base``. Differentiable in x, base, down, up and strength, and, except
        with "fused", in the masks.

    Raises:
        KernelError: a shape, type, device or row does not fit; before anything is launched.
    """
    check(x, base, adapters)
    if implementation == "auto":
        implementation = "fused" if uses_kernel(x, base, adapters) else "composed"
    if implementation == "composed":
        return composed(x, base, adapters)
    if implementation == "reference":
        return reference(x, base, adapters)
    out: Tensor = fused(*Call.of(x, base, adapters).arguments)
    return out


def uses_kernel(x: Tensor, base: Tensor, adapters: Sequence[Adapter]) -> bool:
    """Whether "auto" takes the Triton kernel: on CUDA, in one type of 16 or 32 bits, without gradients in masks.

    An adapter counts once for every 128 of its rank (32 in float32), and with more than 30 it is PyTorch's layers too.
    """
    return (
        x.device.type == "cuda"
        and x.dtype == base.dtype
        and x.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and len(pieces(adapters, x.dtype.itemsize == 4)) <= MOST
        and not (
            torch.is_grad_enabled() and any(a.mask is not None and a.mask.requires_grad for a in adapters)
        )
        and has_triton()
    )
