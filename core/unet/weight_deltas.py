"""Port 6: weight deltas as additions to a layer's output, by forward hooks on layers that nobody else uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...kernels.low_rank import Adapter, low_rank
from ..api.ports import WeightDelta
from ..api.replaced import own_hooks, replaced
from .conditions import Group
from .entry_calls import refused

M = TypeVar("M", bound=nn.Module)

_NORMS = (nn.LayerNorm, nn.GroupNorm)


@contextmanager
def installed(model: M, deltas: Sequence[Group[WeightDelta]]) -> Iterator[M]:
    """A model with the deltas' outputs added to their layers'; the given one stays as it is.

    It shares all parameters with the given one, whose other users, in other threads too, do not see the deltas.

    Raises:
        PluginError: a path is not a linear, convolution or norm layer, or a delta does not fit it.
    """
    # by layer; within one in the order that they came in, which is that of the sum
    sorted_deltas = sorted(deltas, key=lambda group: group.entry.path)
    own = {group.entry.path: own_hooks(_layer(model, group.entry)) for group in sorted_deltas}
    model = replaced(model, own)
    with ExitStack() as stack:
        for _, run in groupby(sorted_deltas, lambda group: (group.entry.path, group.entry.down is None)):
            groups = [*run]
            layers = [_layer(model, group.entry) for group in groups]
            narrow = isinstance(layers[0], nn.Linear) and groups[0].entry.down is not None
            for add in [_low_rank_adder(groups)] if narrow else map(_adder, groups):
                stack.callback(layers[0].register_forward_hook(add).remove)
        yield model


def apply_deltas(model: M, deltas: Iterable[WeightDelta]) -> AbstractContextManager[M]:
    """A model with deltas added to every row of what it is given, as `installed`; gradients reach them.

    Raises:
        PluginError: as `installed`.
    """
    device = next(model.parameters()).device
    return installed(
        model,
        [
            Group(d, None, torch.empty(1, 0, device=device), torch.tensor([d.strength], device=device))
            for d in deltas
        ],
    )


def _low_rank_adder(groups: Sequence[Group[WeightDelta]]) -> Any:
    """All low-rank deltas of a linear layer, as one operation."""

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x, base = _by_position(inputs[0]), _by_position(output)  # r n d
        adapters = [
            Adapter(one.entry.down.to(x.device), one.entry.up.to(x.device), one.strength, rows=one.rows)
            for one in groups
            if one.entry.down is not None
        ]
        return low_rank(x, base, adapters).reshape(output.shape)

    return add


def _by_position(tensor: Tensor) -> Tensor:
    """With one axis of positions; itself where it has one, so that gradients are summed up in the same order."""
    return tensor if tensor.ndim == 3 else tensor.reshape(len(tensor), -1, tensor.shape[-1])


def _adder(group: Group[WeightDelta]) -> Any:
    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        given = group.of(output if group.entry.parameter == "bias" else inputs[0])
        return group.plus(output, _output(layer, group, given).expand(len(given), *output.shape[1:]))

    return add


def _output(layer: nn.Module, group: Group[WeightDelta], hidden: Tensor) -> Tensor:
    """What a delta adds to a layer's output; the strength is applied where there are the fewest channels."""
    delta = group.entry
    if delta.parameter == "bias":
        return group.column(hidden) * _by_channel(layer, delta.up, hidden)
    if isinstance(layer, nn.Linear):
        wide = F.linear(hidden, delta.up.to(hidden))
        return group.column(wide) * wide
    if isinstance(layer, _NORMS):
        scaled = _normalised(layer, hidden) * _by_channel(layer, delta.up, hidden)
        return group.column(scaled) * scaled
    place: Any = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    first = delta.up if delta.down is None else delta.down
    narrow = F.conv2d(hidden, first.to(hidden), **place)
    narrow = group.column(narrow) * narrow
    return narrow if delta.down is None else F.conv2d(narrow, delta.up.to(hidden))


def _normalised(layer: nn.LayerNorm | nn.GroupNorm, hidden: Tensor) -> Tensor:
    """What a norm layer's weight is multiplied by."""
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(hidden, layer.normalized_shape, eps=layer.eps)
    return F.group_norm(hidden, layer.num_groups, eps=layer.eps)


def _by_channel(layer: nn.Module, values: Tensor, like: Tensor) -> Tensor:
    """A number for each channel, which are the last axis of linear layers and layer norms, and the second of others."""
    last = isinstance(layer, nn.Linear | nn.LayerNorm)
    return values.to(like) if last else values.to(like).view(-1, *[1] * (like.ndim - 2))


def _layer(model: nn.Module, delta: WeightDelta) -> nn.Module:
    place = f"weight delta of '{delta.path}'"
    try:
        layer = model.get_submodule(delta.path)
    except AttributeError:
        raise refused(delta, place, f"the {delta.target} has no such layer") from None
    if not isinstance(layer, nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm):
        kinds = "expected a linear, convolution or norm layer"
        raise refused(delta, place, f"{kinds}, found {type(layer).__name__}")
    weight = layer.weight
    if weight is None:
        raise refused(delta, place, "the norm layer has no parameters")
    shape = tuple(weight.shape[:1] if delta.parameter == "bias" else weight.shape)
    shapes = tuple(delta.up.shape)
    fits = shapes == shape
    if delta.down is not None and (delta.parameter == "bias" or isinstance(layer, _NORMS)):
        raise refused(delta, place, "expected a whole delta of a bias or a norm, found low-rank parts")
    if delta.down is not None:
        lower = tuple(delta.down.shape)
        fits = shapes[0] == shape[0] and shapes[1] == lower[0] and lower[1:] == shape[1:]
        shapes = (shapes, lower)  # type: ignore[assignment]
    if not fits:
        expected = f"expected a delta of shape {shape}, or its low-rank parts"
        raise refused(delta, place, f"{expected}, found {shapes}")
    return layer
