"""Starts the Triton kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .update import KINDS, Update

BLOCK = 1024
RESCALE_BLOCK = 4096


def faults(latents: Tensor, rescale: bool) -> tuple[int, int]:
    """Samples, and blocks of one: the shape of the counts that the kernel writes."""
    return len(latents), 1 if rescale else -(-math.prod(latents.shape[1:]) // BLOCK)


def step(
    predictions: Sequence[Tensor],
    coefficients: Sequence[float],
    latents: Tensor,
    before: Tensor | None,
    update: Update,
    share: float,
    rescale: Sequence[float] | None,
    out: Tensor,
    clean: Tensor | None,
    found: Tensor,
) -> None:
    """Write the new latents, the clean ones where they are kept, and how many elements are not finite."""
    from .triton_kernels import step_kernel

    spread = rescale is not None
    latents = latents.contiguous()
    step_kernel[faults(latents, spread)](
        tuple(one.contiguous() for one in predictions),
        tuple(coefficients),
        tuple(coefficients if rescale is None else rescale),
        latents,
        latents if before is None else before.contiguous(),
        out,
        out if clean is None else clean,
        found,
        *update.numbers,
        share,
        math.prod(latents.shape[1:]),
        N=len(predictions),
        KIND=KINDS.index(update.kind),
        SECOND=update.second_order,
        KEEP=clean is not None,
        RESCALE=spread,
        BLOCK=RESCALE_BLOCK if spread else BLOCK,
        num_warps=8 if spread else 4,
    )
