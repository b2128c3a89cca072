"""The operator, `torch.ops.weft.combine_and_step`, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import KernelError
from . import launch
from .reference import reference
from .update import Rescale, Update


@torch.library.custom_op("weft::combine_and_step", mutates_args=())
def combine_and_step(
    predictions: Sequence[Tensor],
    coefficients: Sequence[float],
    latents: Tensor,
    before: Tensor | None,
    kind: int,
    numbers: Sequence[float],
    share: float,
    rescale: Sequence[float] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """New latents (s, c, h, w), clean latents (empty where no later step reads them), faults (s, blocks).

    Args:
        predictions: N of (s, c, h, w).
        coefficients: of all; the last is not read, being what the others lack to 1.
        latents: (s, c, h, w).
        before: clean latents of the step before, or None.
        kind: place in `update.KINDS`.
        numbers: of `Update`.
        share: of the rescale; 0 without.
        rescale: its coefficients, likewise; None without.
    """
    update = Update.of(kind, numbers)
    way = None if rescale is None else Rescale(share, tuple(rescale[:-1]))
    moved, clean = reference(predictions, coefficients[:-1], latents, update, before, way)
    faults = (~torch.isfinite(moved)).sum(dim=(1, 2, 3), dtype=torch.int32)
    shape = launch.faults(latents, rescale is not None)
    spread = torch.nn.functional.pad(faults[:, None], (0, shape[1] - 1))
    return moved, clean if update.kind == "dpmpp_2m" else moved.new_empty(0), spread


@combine_and_step.register_kernel("cuda")
def _(
    predictions: Sequence[Tensor],
    coefficients: Sequence[float],
    latents: Tensor,
    before: Tensor | None,
    kind: int,
    numbers: Sequence[float],
    share: float,
    rescale: Sequence[float] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    update = Update.of(kind, numbers)
    out, clean, found = _empty(predictions, latents, update, rescale)
    kept = clean if update.kind == "dpmpp_2m" else None
    launch.step(predictions, coefficients, latents, before, update, share, rescale, out, kept, found)
    return out, clean, found


@combine_and_step.register_fake
def _(
    predictions: Sequence[Tensor],
    coefficients: Sequence[float],
    latents: Tensor,
    before: Tensor | None,
    kind: int,
    numbers: Sequence[float],
    share: float,
    rescale: Sequence[float] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(predictions, latents, Update.of(kind, numbers), rescale)


def _empty(
    predictions: Sequence[Tensor], latents: Tensor, update: Update, rescale: Sequence[float] | None
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if predictions[-1].dtype == torch.float64 else torch.float32
    out = latents.new_empty(latents.shape, dtype=dtype)
    clean = latents.new_empty(latents.shape if update.kind == "dpmpp_2m" else (0,), dtype=dtype)
    return out, clean, latents.new_empty(launch.faults(latents, rescale is not None), dtype=torch.int32)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    predictions, coefficients, latents, before, kind, numbers, _, rescale = inputs
    ctx.set_materialize_grads(False)
    ctx.types = [one.dtype for one in predictions], latents.dtype, None if before is None else before.dtype
    ctx.coefficients, ctx.update = list(coefficients), Update.of(kind, numbers)
    ctx.rescaled = rescale is not None
    ctx.mark_non_differentiable(output[2])


def _backward(ctx: Any, given: Tensor | None, given_clean: Tensor | None, faults: None) -> tuple[Any, ...]:
    if ctx.rescaled:
        raise KernelError("weft::combine_and_step", "no rescale where a gradient is wanted", "one")
    update: Update = ctx.update
    if update.kind != "dpmpp_2m":
        given_clean = None
    if given is None and given_clean is None:
        return [None] * len(ctx.coefficients), None, None, None, None, None, None, None
    by_e, by_x, by_before = update.slopes
    slope_e: Any = 0.0
    slope_x: Any = 0.0
    if given is not None:
        slope_e, slope_x = given * by_e, given * by_x
    if given_clean is not None:
        slope_e = slope_e - update.b / update.c * given_clean
        slope_x = slope_x + update.a / update.c * given_clean
    *shares, _ = ctx.coefficients
    shares.append(1.0 - sum(shares))
    of_predictions, of_latents, of_before = ctx.types
    return (
        [(share * slope_e).to(dtype) for share, dtype in zip(shares, of_predictions, strict=True)],
        None,
        slope_x.to(of_latents),
        None if of_before is None or given is None else (given * by_before).to(of_before),
        None,
        None,
        None,
        None,
    )


combine_and_step.register_autograd(_backward, setup_context=_setup)
