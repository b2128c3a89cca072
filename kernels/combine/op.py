"""The operator, `torch.ops.weft.combine_and_step`, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import launch
from .call import SCHEMA, Call
from .reference import reference
from .update import Update


@torch.library.custom_op(
    "weft::combine_and_step", mutates_args=(), schema=f"({SCHEMA}) -> (Tensor, Tensor, Tensor)"
)
def combine_and_step(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """New latents (s, c, h, w), clean latents (empty where no later step reads them), faults (s, blocks).

    Args:
        arguments: of `Call`.
    """
    call = Call(*arguments)
    moved, clean = reference(*call.unpacked)
    faults = (~torch.isfinite(moved)).sum(dim=(1, 2, 3), dtype=torch.int32)
    shape = launch.faults(call)
    spread = torch.nn.functional.pad(faults[:, None], (0, shape[1] - 1))
    return moved, clean if call.update.kind == "dpmpp_2m" else moved.new_empty(0), spread


@combine_and_step.register_kernel("cuda")
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    call = Call(*arguments)
    out, clean, found = _empty(call)
    launch.step(call, out, clean if call.update.kind == "dpmpp_2m" else None, found)
    return out, clean, found


@combine_and_step.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(Call(*arguments))


def _empty(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    latents = call.latents
    dtype = torch.float64 if call.predictions[-1].dtype == torch.float64 else torch.float32
    out = latents.new_empty(latents.shape, dtype=dtype)
    clean = latents.new_empty(latents.shape if call.update.kind == "dpmpp_2m" else (0,), dtype=dtype)
    return out, clean, latents.new_empty(launch.faults(call), dtype=torch.int32)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call = Call(*inputs)
    ctx.set_materialize_grads(False)
    ctx.types = (
        [one.dtype for one in call.predictions],
        call.latents.dtype,
        None if call.before is None else call.before.dtype,
    )
    ctx.coefficients, ctx.update = list(call.coefficients), call.update
    ctx.mark_non_differentiable(output[2])


def _backward(ctx: Any, given: Tensor | None, given_clean: Tensor | None, faults: None) -> tuple[Any, ...]:
    update: Update = ctx.update
    if update.kind != "dpmpp_2m":
        given_clean = None
    if given is None and given_clean is None:
        return [None] * len(ctx.coefficients), None, None, None, None, None
    by_e, by_x, by_before = update.slopes
    slope_e: Any = 0.0
    slope_x: Any = 0.0
    if given is not None:
        slope_e, slope_x = given * by_e, given * by_x
    if given_clean is not None:
        slope_e = slope_e - update.b / update.c * given_clean
        slope_x = slope_x + update.a / update.c * given_clean
    of_predictions, of_latents, of_before = ctx.types
    return (
        [(share * slope_e).to(dtype) for share, dtype in zip(ctx.coefficients, of_predictions, strict=True)],
        None,
        slope_x.to(of_latents),
        None if of_before is None or given is None else (given * by_before).to(of_before),
        None,
        None,
    )


combine_and_step.register_autograd(_backward, setup_context=_setup)
