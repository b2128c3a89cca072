"""The operator, `torch.ops.weft.low_rank`, its gradients, and how many floating-point operations it is.

On CUDA it is one launch of Triton; elsewhere it computes the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..errors import KernelError
from . import launch
from .adapter import Adapter, guarded
from .call import SCHEMA, Call
from .reference import reference


@torch.library.custom_op("weft::low_rank", mutates_args=(), schema=f"({SCHEMA}) -> Tensor")
def low_rank(*arguments: Any) -> Tensor:
    """Output (r, n, o).

    Args:
        arguments: of `Call`.
    """
    return reference(*Call(*arguments).unpacked).contiguous()


@low_rank.register_kernel("cuda")
def _(*arguments: Any) -> Tensor:
    call = Call(*arguments)
    out = call.empty_output()
    launch.forward(call, out)
    return out


@low_rank.register_fake
def _(*arguments: Any) -> Tensor:
    return Call(*arguments).empty_output()


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    call = Call(*inputs)
    # a frozen adapter's gradient in x needs no x, which is by far the largest of them
    ctx.trained = any(ctx.needs_input_grad[2:])
    lists = (call.downs, call.ups, call.strengths, call.masks, call.rows)
    ctx.save_for_backward(call.x if ctx.trained else None, *chain(*lists))
    ctx.lengths = [len(tensors) for tensors in lists]
    ctx.masked, ctx.listed = list(call.masked), list(call.listed)


def _backward(ctx: Any, given: Tensor) -> tuple[Any, ...]:
    of_x, of_base, *_, of_masks, _, _, _ = ctx.needs_input_grad
    if any(of_masks):
        raise KernelError("weft::low_rank", "a gradient in x, base, down, up or strength", "one in a mask")
    x, *others = ctx.saved_tensors
    tensors = iter(others)
    downs, ups, strengths, masks, rows = ([*islice(tensors, length)] for length in ctx.lengths)
    call = Call(given, None, downs, ups, strengths, masks, ctx.masked, rows, ctx.listed)
    by_x = None
    if of_x:
        # the same operation, with the factors transposed and in each other's place
        flipped = replace(call, downs=[up.t() for up in ups], ups=[down.t() for down in downs])
        by_x = low_rank(*flipped.arguments)
    factors = [_factor_gradients(x, given, one) if ctx.trained else (None,) * 3 for one in call.adapters]
    return (
        by_x,
        given if of_base else None,
        *([one[place] for one in factors] for place in range(3)),
        [None] * len(masks),
        None,
        [None] * len(rows),
        None,
    )


def _factor_gradients(x: Tensor, given: Tensor, adapter: Adapter) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of down (k, i), up (o, k) and strength (s,)."""
    if adapter.rows is not None:
        x, given = x[adapter.rows], given[adapter.rows]
    factor = adapter.factor()
    narrow = guarded(x @ adapter.down.t().to(x), factor)  # s n k
    slope = given @ adapter.up.to(given)  # s n k
    by_down = torch.einsum("snk,sni->ki", slope * factor.to(slope), x)
    by_up = torch.einsum("sno,snk->ok", given, narrow * factor.to(narrow))
    by_factor = (slope.to(factor) * narrow.to(factor)).sum(dim=-1)  # s n
    by_strength = (by_factor if adapter.mask is None else by_factor * adapter.mask).sum(dim=-1)
    return (
        by_down.to(adapter.down.dtype),
        by_up.to(adapter.up.dtype),
        by_strength.sum_to_size(adapter.strength.shape).to(adapter.strength.dtype),
    )


low_rank.register_autograd(_backward, setup_context=_setup)


@register_flop_formula(torch.ops.weft.low_rank)
def _count(
    x: torch.Size, base: torch.Size | None, downs: Sequence[torch.Size], ups: Sequence[torch.Size],
    strengths: Sequence[torch.Size], *_: Any, **__: Any,
) -> int:  # fmt: skip
    """Multiplications and additions of the products of all rows, whatever a mask leaves out."""
    positions = x[0] * x[1]
    return sum(
        2 * positions * down.numel() + 2 * positions * up.numel() for down, up in zip(downs, ups, strict=True)
    )
