"""The arguments of the custom operators, packed and unpacked in this one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..packed import Packed
from .inputs import Regions, Segments, span

SCHEMA = (
    "Tensor query, Tensor key, Tensor value, SymInt[] lengths, Tensor? weights, Tensor? space, Tensor? members, "
    "bool capture, SymInt first, SymInt last"
)
"""Types and names of a `Call`'s fields, in their order, as PyTorch writes them."""


@dataclass(frozen=True, eq=False)
class Call(Packed):
    """The arguments of one call.

    Args:
        query: (r, n, h, d).
        key: (r, t, h, d), of all segments.
        value: likewise.
        lengths: tokens of each segment.
        weights: (s, r, 1 or n) in float32, or None for 1.
        space: (r, g, n), with ``members`` (r, g, t): the regions' low-rank bias; both or neither.
        members: see ``space``.
        capture: whether the first segment's maps are wanted.
        first: of the rows ``first`` to ``last`` - 1.
        last: see ``first``.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    lengths: Sequence[int]
    weights: Tensor | None
    space: Tensor | None
    members: Tensor | None
    capture: bool
    first: int
    last: int

    @staticmethod
    def of(query: Tensor, segments: Segments, regions: Regions | None, rows: slice, capture: bool) -> Call:
        """From the arguments of `reference`."""
        space, members = (None, None) if regions is None else (regions.space, regions.tokens)
        return Call(
            query, segments.key, segments.value, segments.lengths, segments.weights, space, members, capture,
            *span(rows, len(query)),
        )  # fmt: skip

    @property
    def unpacked(self) -> tuple[Tensor, Segments, Regions | None, slice, bool]:
        """The arguments of `reference`."""
        weighted = (self.weights is not None,) * len(self.lengths)
        segments = Segments(self.key, self.value, tuple(self.lengths), self.weights, weighted)
        regions = None
        if self.space is not None and self.members is not None:
            regions = Regions(self.space, self.members)
        return self.query, segments, regions, slice(self.first, self.last), self.capture

    def empty_maps(self) -> Tensor:
        """Room for the maps (last - first, h, n, t) in float32 or wider; of no element where none are captured."""
        _, n, h, _ = self.query.shape
        shape = (self.last - self.first, h, n, self.lengths[0]) if self.capture else (0,)
        return self.query.new_empty(shape, dtype=torch.promote_types(self.query.dtype, torch.float32))
