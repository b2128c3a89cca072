"""The definition, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .update import Update


def reference(
    predictions: Sequence[Float[Tensor, "s c h w"]],
    coefficients: Sequence[float],
    latents: Float[Tensor, "s c h w"],
    update: Update,
    before: Float[Tensor, "s c h w"] | None = None,
) -> tuple[Float[Tensor, "s c h w"], Float[Tensor, "s c h w"]]:
    """The new latents, and the predicted clean latents, in float32.

    Args:
        predictions: of every branch.
        coefficients: of all predictions but the last, whose own is what they lack to 1. So the sum is
            ``last + sum over i of coefficient_i (prediction_i - last)``, the arithmetic of classifier-free guidance.
        latents: before the step.
        update: the scheduler's step.
        before: predicted clean latents of the step before, for an update of second order.
    """
    wide = [one.float() if one.dtype != torch.float64 else one for one in predictions]
    *others, last = wide
    e = last
    for one, coefficient in zip(others, coefficients, strict=True):
        e = e + coefficient * (one - last)
    x = latents.to(e.dtype)
    x0 = (update.a * x - update.b * e) / update.c
    if update.kind == "ddim":
        return update.p * x0 + update.q * (update.f * e + update.g * x), x0
    if update.kind == "euler":
        return x + (x - x0) / update.p * update.q, x0
    moved = update.p * x - update.q * x0
    if update.second_order:
        assert before is not None
        moved = moved - update.f * (update.g * (x0 - before))
    return moved, x0
