"""Port 6: weight deltas as additions to a layer's output, in a model of their own over the same parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, TypeAlias, TypeVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...kernels.low_rank import Adapter, low_rank
from ..api.attention_maps import Grid
from ..api.ports import WeightDelta
from .entry_calls import refused
from .graft import Addition, grafted
from .group import Group

Delta: TypeAlias = Group[WeightDelta]
M = TypeVar("M", bound=nn.Module)

_NORMS = (nn.LayerNorm, nn.GroupNorm)


def is_of_text(path: str) -> bool:
    """Whether a layer makes keys or values of the text, so that its positions are tokens and none of the image's."""
    return path.endswith(("attn2.to_k", "attn2.to_v"))


def with_groups(model: M, deltas: Sequence[Delta]) -> M:
    """The model with the deltas' outputs added to their layers'; the model itself is left as it is.

    Of the layers that make the text's keys and values, what is limited to a region is left out: see `reading`.

    Raises:
        PluginError: a path is not a linear, convolution or norm layer, or a delta does not fit it.
    """
    additions: dict[str, list[Addition]] = {}
    regional: dict[str, list[Delta]] = {}
    # by layer; within one in the order that they came in, which is that of the sum
    for path, run in groupby(sorted(deltas, key=lambda group: group.entry.path), lambda one: one.entry.path):
        groups = [*run]
        layer = [_layer(model, group.entry) for group in groups][-1]
        if is_of_text(path):
            regional[path] = [group for group in groups if group.mask is not None]
            groups = [group for group in groups if group.mask is None]
        additions[path] = _additions(layer, groups)
    return grafted(model, additions, regional)


def reading(attention: M, conditioner: str) -> M:
    """A cross-attention layer with the keys and values of a region: with the deltas that a conditioner has there.

    Args:
        attention: of a model that `with_groups` gave.
        conditioner: the deltas' origin.
    """
    additions = {}
    for name in ("to_k", "to_v"):
        layer = attention.get_submodule(name)
        regional: Sequence[Delta] = getattr(layer, "regional", ())
        # the region reads all of its keys and values, so the mask weighs what comes of them and not these
        there = [replace(group, mask=None) for group in regional if group.entry.origin == conditioner]
        if there:
            additions[name] = _additions(layer, there)
    return grafted(attention, additions)


def apply_deltas(model: M, deltas: Iterable[WeightDelta]) -> M:
    """The model with deltas on every row of what it is given; gradients reach them. The model is left as it is.

    Raises:
        PluginError: as `with_groups`.
    """
    like = next(model.parameters())
    wide = torch.promote_types(like.dtype, torch.float32)
    groups = [
        Group(
            delta,
            None,
            torch.empty(1, 0, device=like.device),
            torch.tensor([delta.strength], dtype=wide, device=like.device),
        )
        for delta in deltas
    ]
    return with_groups(model, groups)


def _additions(layer: nn.Module, groups: Sequence[Delta]) -> list[Addition]:
    """Neighbours of low rank on a linear layer are one operation."""
    additions: list[Addition] = []
    for whole, run in groupby(groups, lambda group: group.entry.down is None):
        if isinstance(layer, nn.Linear) and not whole:
            additions.append(_low_rank_adder([*run]))
        else:
            additions += map(_adder, run)
    return additions


def _low_rank_adder(groups: Sequence[Delta]) -> Addition:
    """All low-rank deltas of a linear layer, as one operation."""

    def add(layer: nn.Module, hidden: Tensor, output: Tensor) -> Tensor:
        x, base = _by_position(hidden), _by_position(output)  # r n d
        adapters = [
            Adapter(
                one.entry.down.to(x.device),
                one.entry.up.to(x.device),
                one.strength,
                _mask(one, x),
                one.rows,
            )
            for one in groups
            if one.entry.down is not None
        ]
        return low_rank(x, base, adapters).reshape(output.shape)

    return add


def _by_position(tensor: Tensor) -> Tensor:
    """With one axis of positions; itself where it has one, so that gradients are summed up in the same order."""
    return tensor if tensor.ndim == 3 else tensor.reshape(len(tensor), -1, tensor.shape[-1])


def _mask(group: Delta, hidden: Float[Tensor, "q n d"]) -> Float[Tensor, "r n"] | None:
    """The regions at the positions of a linear layer; at what has no place in the image, their share of it."""
    if group.mask is None:
        return None
    if (grid := grid_of(hidden.shape[1], group.mask.shape[1:])) is None:
        return group.mask.mean((1, 2))[:, None].expand(-1, hidden.shape[1]).to(group.strength)
    mask = group.mask_at(grid, group.strength)
    return None if mask is None else rearrange(mask, "r h w -> r (h w)")


def grid_of(positions: int, size: Sequence[int]) -> Grid | None:
    """The size, halved again and again, that has so many positions; None where there is none."""
    height, width = size
    while height * width > positions:
        height, width = (height + 1) // 2, (width + 1) // 2
    return (height, width) if height * width == positions and positions > 1 else None


def _factor(layer: nn.Module, group: Delta, output: Tensor) -> Tensor:
    """Strengths times regions, to multiply what is added to an output of a layer."""
    if group.mask is None:
        return group.column(output)
    if isinstance(layer, nn.Conv2d | nn.GroupNorm):
        return group.factor(output)
    mask = _mask(group, _by_position(output))
    assert mask is not None
    return group.column(output) * mask.to(output).view(*output.shape[:-1], 1)


def _adder(group: Delta) -> Addition:
    def add(layer: nn.Module, hidden: Tensor, output: Tensor) -> Tensor:
        before = group.of(output if group.entry.parameter == "bias" else hidden)
        return group.plus(output, _output(layer, group, before).expand(len(before), *output.shape[1:]))

    return add


def _output(layer: nn.Module, group: Delta, hidden: Tensor) -> Tensor:
    """What a delta adds to a layer's output; the strength is applied where there are the fewest channels."""
    delta = group.entry
    if delta.parameter == "bias":
        return _factor(layer, group, hidden) * _by_channel(layer, delta.up, hidden)
    if isinstance(layer, nn.Linear):
        wide = F.linear(hidden, delta.up.to(hidden))
        return _factor(layer, group, wide) * wide
    if isinstance(layer, _NORMS):
        scaled = _normalised(layer, hidden) * _by_channel(layer, delta.up, hidden)
        return _factor(layer, group, scaled) * scaled
    place: Any = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    first = delta.up if delta.down is None else delta.down
    narrow = F.conv2d(hidden, first.to(hidden), **place)
    narrow = _factor(layer, group, narrow) * narrow
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
