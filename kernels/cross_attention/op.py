"""The fused operator, `torch.ops.weft.cross_attention`, and its gradient in the query.

On CUDA both are one launch of Triton; elsewhere they compute the reference. Keys and values are conditions, which no
gradient reaches; where one is wanted the dispatcher takes another way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import KernelError
from . import launch
from .call import SCHEMA, Call
from .reference import reference, reference_gradient


@torch.library.custom_op("weft::cross_attention", mutates_args=(), schema=f"({SCHEMA}) -> (Tensor, Tensor)")
def cross_attention(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Output (r, n, h, d) and, in float32 or wider, maps (last - first, h, n, t), empty where none are
    captured.

    Args:
        arguments: of `Call`.
    """
    call = Call(*arguments)
    out, maps = reference(*call.unpacked)
    if maps is None:
        return out.contiguous(), call.empty_maps()
    return out.contiguous(), maps.clone(memory_format=torch.contiguous_format)


@cross_attention.register_kernel("cuda")
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    call = Call(*arguments)
    out, maps = _empty(call.query), call.empty_maps()
    launch.forward(call, out, maps)
    return out, maps


@cross_attention.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    call = Call(*arguments)
    return _empty(call.query), call.empty_maps()


@torch.library.custom_op(
    "weft::cross_attention_backward",
    mutates_args=(),
    schema=f"(Tensor? given, Tensor? given_maps, {SCHEMA}) -> Tensor",
)
def cross_attention_backward(given: Tensor | None, given_maps: Tensor | None, *arguments: Any) -> Tensor:
    """The query's gradient (r, n, h, d), from those of output and maps; the probabilities are computed anew."""
    return reference_gradient(given, given_maps, *Call(*arguments).unpacked).contiguous()


@cross_attention_backward.register_kernel("cuda")
def _(given: Tensor | None, given_maps: Tensor | None, *arguments: Any) -> Tensor:
    call = Call(*arguments)
    out = _empty(call.query)
    launch.backward(call, given, given_maps, out)
    return out


@cross_attention_backward.register_fake
def _(given: Tensor | None, given_maps: Tensor | None, *arguments: Any) -> Tensor:
    return _empty(Call(*arguments).query)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    # a tensor kept in any other way would not be freed with the graph
    ctx.save_for_backward(*(one if isinstance(one, Tensor) else None for one in inputs))
    ctx.others = [None if isinstance(one, Tensor) else one for one in inputs]


def _backward(ctx: Any, given: Tensor | None, given_maps: Tensor | None) -> tuple[Tensor | None, ...]:
    if any(ctx.needs_input_grad[1:]):
        raise KernelError("weft::cross_attention", "a gradient in the query alone", "one in another argument")
    saved = zip(ctx.saved_tensors, ctx.others, strict=True)
    call = Call(*(other if tensor is None else tensor for tensor, other in saved))
    if not call.capture:
        given_maps = None
    gradient = None
    if given is not None or given_maps is not None:
        gradient = cross_attention_backward(given, given_maps, *call.arguments)
    return gradient, *[None] * (len(ctx.others) - 1)


cross_attention.register_autograd(_backward, setup_context=_setup)


def _empty(query: Tensor) -> Tensor:
    return query.new_empty(query.shape)
