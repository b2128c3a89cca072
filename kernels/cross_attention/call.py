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
    "Tensor? groups, SymInt first, SymInt last"
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
        groups: (last - first, c, t), token groups to capture.
        first: rows ``first`` to ``last`` - 1 are captured.
        last: see ``first``.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    lengths: Sequence[int]
    weights: Tensor | None
    space: Tensor | None
    members: Tensor | None
    groups: Tensor | None
    first: int
    last: int

    @staticmethod
    def of(
        query: Tensor, segments: Segments, regions: Regions | None, groups: Tensor | None, rows: slice
    ) -> Call:
        """From the arguments of `reference`."""
        space, members = (None, None) if regions is None else (regions.space, regions.tokens)
        return Call(
            query, segments.key, segments.value, segments.lengths, segments.weights, space, members, groups,
            *span(rows, len(query)),
        )  # fmt: skip

    @property
    def unpacked(self) -> tuple[Tensor, Segments, Regions | None, Tensor | None, slice]:
        """The arguments of `reference`."""
        weighted = (self.weights is not None,) * len(self.lengths)
        segments = Segments(self.key, self.value, tuple(self.lengths), self.weights, weighted)
        regions = None
        if self.space is not None and self.members is not None:
            regions = Regions(self.space, self.members)
        return self.query, segments, regions, self.groups, slice(self.first, self.last)

    def empty_maps(self) -> Tensor:
        """Room for the maps (last - first, h, n, c) in float32 or wider; of no element without groups."""
        _, n, h, _ = self.query.shape
        shape = (0,) if self.groups is None else (self.last - self.first, h, n, self.groups.shape[1])
        return self.query.new_empty(shape, dtype=torch.promote_types(self.query.dtype, torch.float32))
