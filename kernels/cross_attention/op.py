"""The fused operator, `torch.ops.weft.cross_attention`, and its gradient in the query.

On CUDA both are one launch of Triton; elsewhere they compute the reference. Keys and values are conditions, which no
gradient reaches; where one is wanted the dispatcher takes another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import KernelError
from . import launch
from .inputs import Regions, Segments
from .reference import reference, reference_gradient


@torch.library.custom_op("weft::cross_attention", mutates_args=())
def cross_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    weights: Tensor | None,
    space: Tensor | None,
    members: Tensor | None,
    groups: Tensor | None,
    first: int,
    last: int,
) -> tuple[Tensor, Tensor]:
    """Output (r, n, h, d) and, in float32 or wider, maps (last - first, h, n, c), empty without groups.

    Args:
        query: (r, n, h, d).
        key: (r, t, h, d), of all segments.
        value: likewise.
        lengths: tokens of each segment.
        weights: (s, r, 1 or n) in float32, or None for 1.
        space: (r, g, n), with ``members`` (r, g, t): the regions' low-rank bias; both or neither.
        members: see ``space``.
        groups: (last - first, c, t), token groups to capture.
        first: rows ``first`` to ``last`` - 1 are captured.
        last: see ``first``.
    """
    call = launch.Call(query, key, value, lengths, weights, space, members, groups, first, last)
    out, maps = reference(*_arguments(call))
    return out.contiguous(), _no_maps(query) if maps is None else maps.contiguous()


@cross_attention.register_kernel("cuda")
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    weights: Tensor | None,
    space: Tensor | None,
    members: Tensor | None,
    groups: Tensor | None,
    first: int,
    last: int,
) -> tuple[Tensor, Tensor]:
    call = launch.Call(query, key, value, lengths, weights, space, members, groups, first, last)
    out, maps = _empty(call)
    launch.forward(call, out, maps)
    return out, maps


@cross_attention.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    weights: Tensor | None,
    space: Tensor | None,
    members: Tensor | None,
    groups: Tensor | None,
    first: int,
    last: int,
) -> tuple[Tensor, Tensor]:
    return _empty(launch.Call(query, key, value, lengths, weights, space, members, groups, first, last))


@torch.library.custom_op("weft::cross_attention_backward", mutates_args=())
def cross_attention_backward(
    given: Tensor | None,
    given_maps: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    weights: Tensor | None,
    space: Tensor | None,
    members: Tensor | None,
    groups: Tensor | None,
    first: int,
    last: int,
) -> Tensor:
    """The query's gradient (r, n, h, d), from those of output and maps; the probabilities are computed anew."""
    call = launch.Call(query, key, value, lengths, weights, space, members, groups, first, last)
    return reference_gradient(given, given_maps, *_arguments(call)).contiguous()


@cross_attention_backward.register_kernel("cuda")
def _(
    given: Tensor | None,
    given_maps: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    weights: Tensor | None,
    space: Tensor | None,
    members: Tensor | None,
    groups: Tensor | None,
    first: int,
    last: int,
) -> Tensor:
    call = launch.Call(query, key, value, lengths, weights, space, members, groups, first, last)
    out = query.new_empty(query.shape)
    launch.backward(call, given, given_maps, out)
    return out


@cross_attention_backward.register_fake
def _(given: Tensor | None, given_maps: Tensor | None, query: Tensor, *others: Any) -> Tensor:
    return query.new_empty(query.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, lengths, weights, space, members, groups, first, last = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(query, key, value, weights, space, members, groups)
    ctx.lengths, ctx.first, ctx.last = lengths, first, last


def _backward(ctx: Any, given: Tensor | None, given_maps: Tensor | None) -> tuple[Tensor | None, ...]:
    query, key, value, weights, space, members, groups = ctx.saved_tensors
    if any(ctx.needs_input_grad[1:]):
        raise KernelError("weft::cross_attention", "a gradient in the query alone", "one in another argument")
    if groups is None:
        given_maps = None
    gradient = None
    if given is not None or given_maps is not None:
        gradient = cross_attention_backward(
            given,
            given_maps,
            query,
            key,
            value,
            ctx.lengths,
            weights,
            space,
            members,
            groups,
            ctx.first,
            ctx.last,
        )
    return gradient, None, None, None, None, None, None, None, None, None


cross_attention.register_autograd(_backward, setup_context=_setup)


def _arguments(
    call: launch.Call,
) -> tuple[Tensor, Segments, Regions | None, Tensor | None, slice]:
    segments = Segments(
        call.key,
        call.value,
        tuple(call.lengths),
        call.weights,
        (call.weights is not None,) * len(call.lengths),
    )
    regions = None
    if call.space is not None and call.members is not None:
        regions = Regions(call.space, call.members)
    return call.query, segments, regions, call.groups, slice(call.first, call.last)


def _empty(call: launch.Call) -> tuple[Tensor, Tensor]:
    r, n, h, d = call.query.shape
    out = call.query.new_empty(r, n, h, d)
    if call.groups is None:
        return out, _no_maps(call.query)
    wide = torch.promote_types(call.query.dtype, torch.float32)
    return out, call.query.new_empty(call.last - call.first, h, n, call.groups.shape[1], dtype=wide)


def _no_maps(query: Tensor) -> Tensor:
    return query.new_empty(0, dtype=torch.promote_types(query.dtype, torch.float32))
