"""Inputs of low-rank products for tests: shapes, ranks, masks and rows, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weft.kernels.low_rank import Adapter


@dataclass(frozen=True)
class Case:
    """One call.

    Args:
        shape: rows, positions, channels in, channels out.
        ranks: of each adapter.
        masked: how many of them have a mask: a region with soft edges, and nothing elsewhere.
        rows: which rows the last adapter concerns; None is all.
        one: one strength and mask stand for all rows.
    """

    shape: tuple[int, int, int, int]
    ranks: tuple[int, ...]
    masked: int = 0
    rows: tuple[int, ...] | None = None
    one: bool = False

    def make(self, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """Keyword arguments of `low_rank`; the first row's first strength is 0 where every row has its own."""
        generator = torch.Generator().manual_seed(sum(self.shape) + sum(self.ranks))

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        r, n, i, o = self.shape
        adapters = []
        for number, rank in enumerate(self.ranks):
            rows = self.rows if number == len(self.ranks) - 1 else None
            count = 1 if self.one else r if rows is None else len(rows)
            strength = normal(count)
            if number == 0 and count > 1:
                strength[0] = 0.0
            mask = (normal(count, n) + 0.3).clamp(0, 1) if number < self.masked else None
            adapters.append(
                Adapter(
                    normal(rank, i) * i**-0.5,
                    normal(o, rank) * rank**-0.5,
                    strength,
                    mask,
                    None if rows is None else torch.tensor(rows),
                )
            )
        return {"x": normal(r, n, i), "base": normal(r, n, o), "adapters": adapters}


CASES = {
    "one": Case((2, 5, 6, 7), (3,)),
    "one number for all rows": Case((3, 4, 5, 6), (2, 4), masked=1, one=True),
    "masked": Case((2, 5, 6, 7), (3,), masked=1),
    "some rows": Case((4, 3, 5, 2), (2,), rows=(3, 1)),
    "all": Case((3, 4, 6, 5), (1, 4, 2), masked=3, rows=(2,)),
}
