"""A model with additions to the outputs of some layers, which no other thread that runs it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from torch import Tensor, nn

from ..api.replaced import replaced

Addition: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(layer, input, output so far) -> output."""

M = TypeVar("M", bound=nn.Module)


def grafted(
    model: M,
    additions: Mapping[str, Sequence[Addition]],
    regional: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> M:
    """The model with additions to the outputs of some layers, made in their order.

    Args:
        model: is left as it is.
        additions: by the layer's path, which must be there.
        regional: what else a changed layer holds for who asks for it.
    """
    layers = {
        path: _changed(model.get_submodule(path), made, regional.get(path, ()))
        for path, made in additions.items()
    }
    return replaced(model, layers)


def _changed(layer: nn.Module, additions: Sequence[Addition], regional: Sequence[Any]) -> nn.Module:
    """The layer with additions to its output; still of its class, as its users look at that and at its weight."""
    other: Any = copy(layer)
    if not isinstance(layer, _Changed):
        other.__class__ = _changed_class(type(layer))  # type: ignore[arg-type]
        other.additions = ()
    other.additions, other.regional = (*other.additions, *additions), regional
    return other  # type: ignore[no-any-return]


class _Changed:
    """A layer with additions, mixed into its class.

    Attributes:
        additions: to its output.
        regional: further ones, for who asks for them.
    """

    additions: tuple[Addition, ...]
    regional: Sequence[Any]

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = super().forward(hidden)  # type: ignore[misc]
        for add in self.additions:
            output = add(self, hidden, output)  # type: ignore[arg-type]
        return output


@cache
def _changed_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Changed{kind.__name__}", (_Changed, kind), {})
