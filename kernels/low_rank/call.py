"""The arguments of the custom operator, packed and unpacked in this one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..packed import Packed
from .adapter import Adapter

SCHEMA = (
    "Tensor x, Tensor? base, Tensor[] downs, Tensor[] ups, Tensor[] strengths, Tensor[] masks, SymInt[] masked, "
    "Tensor[] rows, SymInt[] listed"
)
"""Types and names of a `Call`'s fields, in their order, as PyTorch writes them."""


@dataclass(frozen=True, eq=False)
class Call(Packed):
    """The arguments of one call.

    Args:
        x: (r, n, i).
        base: (r, n, o), or None for 0.
        downs, ups, strengths: of every adapter, (k, i), (o, k) and (s,).
        masks: (s, n), of those that have one.
        masked: the place of every adapter's among them, or -1.
        rows: (s,), of those that do not concern all rows.
        listed: the place of every adapter's among them, or -1.
    """

    x: Tensor
    base: Tensor | None
    downs: Sequence[Tensor]
    ups: Sequence[Tensor]
    strengths: Sequence[Tensor]
    masks: Sequence[Tensor]
    masked: Sequence[int]
    rows: Sequence[Tensor]
    listed: Sequence[int]

    @staticmethod
    def of(x: Tensor, base: Tensor | None, adapters: Sequence[Adapter]) -> Call:
        """From the arguments of `reference`."""
        masks, masked = _listed([one.mask for one in adapters])
        rows, listed = _listed([one.rows for one in adapters])
        return Call(
            x, base,
            [one.down for one in adapters], [one.up for one in adapters], [one.strength for one in adapters],
            masks, masked, rows, listed,
        )  # fmt: skip

    @property
    def adapters(self) -> list[Adapter]:
        masks = [None if place < 0 else self.masks[place] for place in self.masked]
        rows = [None if place < 0 else self.rows[place] for place in self.listed]
        return [
            Adapter(*each) for each in zip(self.downs, self.ups, self.strengths, masks, rows, strict=True)
        ]

    @property
    def unpacked(self) -> tuple[Tensor, Tensor | None, list[Adapter]]:
        """The arguments of `reference`."""
        return self.x, self.base, self.adapters

    def empty_output(self) -> Tensor:
        """Room for the output (r, n, o)."""
        if self.base is not None:
            return torch.empty_like(self.base, memory_format=torch.contiguous_format)
        return self.x.new_empty(*self.x.shape[:2], self.ups[0].shape[0])


def _listed(optional: Sequence[Tensor | None]) -> tuple[list[Tensor], list[int]]:
    """Those that are there, and the place of each of all among them, or -1; an operator takes no list with gaps."""
    tensors = [one for one in optional if one is not None]
    places = iter(range(len(tensors)))
    return tensors, [-1 if one is None else next(places) for one in optional]
