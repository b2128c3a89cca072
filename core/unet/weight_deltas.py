"""Port 6: weight deltas as additions to a layer's output, by forward hooks that leave no trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..api.ports import WeightDelta
from ..errors import PluginError
from .conditions import Group


@contextmanager
def installed(model: nn.Module, deltas: Sequence[Group[WeightDelta]]) -> Iterator[None]:
    """Add the deltas' outputs to their layers' while the context is entered.

    Raises:
        PluginError: a path is not a linear or convolution layer, or a delta does not fit it.
    """
    with ExitStack() as stack:
        for group in deltas:
            handle = _layer(model, group.entry).register_forward_hook(_adder(group))
            stack.callback(handle.remove)
        yield


def apply_deltas(model: nn.Module, deltas: Iterable[WeightDelta]) -> AbstractContextManager[None]:
    """Add deltas to every row of what a model is given while the context is entered; gradients reach them.

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


def _adder(group: Group[WeightDelta]) -> Any:
    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return group.plus(output, _output(layer, group, group.of(inputs[0])))

    return add


def _output(layer: nn.Module, group: Group[WeightDelta], hidden: Tensor) -> Tensor:
    """What a delta adds to a layer's output; the strength is applied where there are the fewest channels."""
    delta, linear = group.entry, isinstance(layer, nn.Linear)
    up, down = delta.up.to(hidden), None if delta.down is None else delta.down.to(hidden)
    place: Any = {}
    if isinstance(layer, nn.Conv2d):
        place = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    first = up if down is None else down
    narrow = F.linear(hidden, first) if linear else F.conv2d(hidden, first, **place)
    narrow = group.column(narrow) * narrow
    if down is None:
        return narrow
    return F.linear(narrow, up) if linear else F.conv2d(narrow, up)


def _layer(model: nn.Module, delta: WeightDelta) -> nn.Module:
    place = f"weight delta of '{delta.path}'"
    try:
        layer = model.get_submodule(delta.path)
    except AttributeError:
        raise PluginError("weights", place, f"the {delta.target} has no such layer") from None
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise PluginError(
            "weights", place, f"expected a linear or convolution layer, found {type(layer).__name__}"
        )
    shape = tuple(layer.weight.shape)
    shapes = tuple(delta.up.shape)
    fits = shapes == shape
    if delta.down is not None:
        lower = tuple(delta.down.shape)
        fits = shapes[0] == shape[0] and shapes[1] == lower[0] and lower[1:] == shape[1:]
        shapes = (shapes, lower)  # type: ignore[assignment]
    if not fits:
        raise PluginError(
            "weights", place, f"expected a delta of shape {shape}, or its low-rank parts, found {shapes}"
        )
    return layer
