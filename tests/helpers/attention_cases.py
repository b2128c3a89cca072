"""Inputs of cross-attention for tests: shapes, segments and regions, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from weft.kernels.cross_attention import Regions, Segment, Segments


@dataclass(frozen=True)
class Case:
    """One call.

    Args:
        shape: rows, positions, heads, size of a head.
        lengths: tokens of each segment.
        weights: None, "row" (one number per row; the first row of the last segment has 0) or "position".
        regions: how many.
        capture: whether maps are wanted.
        rows: whose.
    """

    shape: tuple[int, int, int, int]
    lengths: tuple[int, ...]
    weights: str | None = None
    regions: int = 0
    capture: bool = False
    rows: slice = field(default_factory=lambda: slice(None))

    def make(self, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """Keyword arguments of `cross_attention`."""
        generator = torch.Generator().manual_seed(hash((self.shape, self.lengths)) % 2**31)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        r, n, h, d = self.shape
        positions = {"row": 1, "position": n}
        segments = []
        for number, length in enumerate(self.lengths):
            weight = None
            if self.weights is not None and (number > 0 or self.weights == "position"):
                weight = normal(r, positions[self.weights])
                if number == len(self.lengths) - 1:
                    weight[0] = 0.0
            segments.append(Segment(normal(r, length, h, d), normal(r, length, h, d), weight))
        made: dict[str, Any] = {"query": normal(r, n, h, d), "segments": Segments.of(segments)}
        if self.regions:
            tokens = max(1, self.lengths[0] - 2)
            space = torch.where(normal(r, self.regions, n) > 0.5, -1e4, 0.25).to(dtype)
            members = (normal(r, self.regions, tokens) > 0).to(dtype)
            members[..., 0] = 0.0  # a token that is read everywhere
            made["regions"] = Regions(space, members)
        return made | ({"capture": True, "rows": self.rows} if self.capture else {})


CASES = {
    "plain": Case((2, 5, 3, 8), (7,)),
    "two segments": Case((2, 5, 2, 8), (7, 3), weights="row"),
    "three segments by position": Case((3, 4, 1, 6), (5, 2, 1), weights="position"),
    "regions": Case((2, 6, 2, 4), (9,), regions=2),
    "maps": Case((3, 5, 2, 8), (7,), capture=True, rows=slice(1, 3)),
    "all": Case((3, 5, 2, 8), (7, 4), weights="position", regions=1, capture=True, rows=slice(2, 3)),
}
