"""The definition, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .update import Rescale, Update


def reference(
    predictions: Sequence[Float[Tensor, "s c h w"]],
    coefficients: Sequence[float],
    latents: Float[Tensor, "s c h w"],
    update: Update,
    before: Float[Tensor, "s c h w"] | None = None,
    rescale: Rescale | None = None,
) -> tuple[Float[Tensor, "s c h w"], Float[Tensor, "s c h w"]]:
    """The new latents, and the predicted clean latents, in float32.

    Args:
        predictions: of every branch.
        coefficients: of all predictions but the last, whose own is what they lack to 1. So the sum is
            ``last + sum over i of coefficient_i (prediction_i - last)``, the arithmetic of classifier-free guidance.
        latents: before the step.
        update: the scheduler's step.
        before: predicted clean latents of the step before, for an update of second order.
        rescale: of the sum's standard deviation.
    """
    wide = [one.float() if one.dtype != torch.float64 else one for one in predictions]
    e = _sum(wide, coefficients)
    if rescale is not None:
        axes = (1, 2, 3)
        wanted = _sum(wide, rescale.coefficients).std(dim=axes, keepdim=True)
        ratio = wanted / e.std(dim=axes, keepdim=True)
        e = rescale.share * (e * ratio) + (1.0 - rescale.share) * e
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


def _sum(predictions: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    *others, last = predictions
    total = last
    for one, coefficient in zip(others, coefficients, strict=True):
        total = total + coefficient * (one - last)
    return total
