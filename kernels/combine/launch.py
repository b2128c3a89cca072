"""Starts the Triton kernel."""

from __future__ import annotations

import math

from torch import Tensor

from .call import Call

BLOCK = 1024


def faults(call: Call) -> tuple[int, int]:
    """Samples, and blocks of one: the shape of the counts that the kernel writes."""
    latents = call.latents
    return len(latents), -(-math.prod(latents.shape[1:]) // BLOCK)


def step(call: Call, out: Tensor, clean: Tensor | None, found: Tensor) -> None:
    """Write the new latents, the clean ones where they are kept, and how many elements are not finite."""
    from .triton_kernels import step_kernel

    latents, update = call.latents.contiguous(), call.update
    step_kernel[faults(call)](
        tuple(one.contiguous() for one in call.predictions),
        tuple(call.coefficients),
        latents,
        latents if call.before is None else call.before.contiguous(),
        out,
        out if clean is None else clean,
        found,
        *update.numbers,
        math.prod(latents.shape[1:]),
        N=len(call.predictions),
        KIND=call.kind,
        SECOND=update.second_order,
        KEEP=clean is not None,
        BLOCK=BLOCK,
        num_warps=4,
    )
