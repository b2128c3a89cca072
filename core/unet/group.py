"""The entries of one port that share their modules, one per row of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ..api.attention_maps import Grid
from ..api.ports import Entry
from ..scene.pixels import resize

E = TypeVar("E", bound=Entry)

Factors = Mapping[str, float]
"""What scales the entries of a row, by the name of the conditioner that they came from; 1 where it is not named."""


@dataclass(frozen=True)
class Member:
    """Whose entry of a group it is.

    Args:
        row: of the batch.
        strength: the entry's.
        origin: the conditioner that it came from.
    """

    row: int
    strength: float
    origin: str


@dataclass(frozen=True)
class Group(Generic[E]):
    """Entries of one port that share their modules, one per row.

    Args:
        entry: the first of them; its modules are everybody's.
        rows: which rows of the batch; None when it is all of them, in order.
        state: the entries' tensors, stacked.
        strength: one number per row.
        mask: the entries' regions, in [0, 1] of the whole image; None where they act everywhere.
        members: the entries, for `scaled`; none where a training makes the group.
    """

    entry: E
    rows: Int[Tensor, " r"] | None
    state: Float[Tensor, "r ..."]
    strength: Float[Tensor, " r"]
    mask: Float[Tensor, "r h w"] | None = None
    members: tuple[Member, ...] = ()

    def of(self, batch: Tensor) -> Tensor:
        """The rows of a batch that the group concerns."""
        return batch if self.rows is None else batch[self.rows]

    def put(self, batch: Tensor, part: Tensor) -> Tensor:
        """The batch with the group's rows replaced."""
        return part if self.rows is None else batch.index_copy(0, self.rows, part)

    def column(self, like: Tensor) -> Tensor:
        """The strengths, shaped to multiply a tensor of the group's rows."""
        return self.strength.to(like).view(-1, *[1] * (like.ndim - 1))

    def mask_at(self, grid: Grid, like: Tensor) -> Float[Tensor, "r h w"] | None:
        """The regions at a feature map's size, in the dtype and on the device of a tensor."""
        return None if self.mask is None else resize(self.mask, grid, self.entry.resize).to(like)

    def factor(self, like: Float[Tensor, "r c h w"]) -> Float[Tensor, "r 1 #h #w"]:
        """Strengths times regions, to multiply a feature map of the group's rows."""
        mask = self.mask_at((like.shape[2], like.shape[3]), like)
        return self.column(like) if mask is None else self.column(like) * rearrange(mask, "r h w -> r 1 h w")

    def add(self, batch: Tensor, part: Float[Tensor, "r c h w"]) -> Tensor:
        """The batch with ``strength * region * part`` added to the group's rows."""
        return self.plus(batch, self.factor(part) * part)

    def plus(self, batch: Tensor, part: Tensor) -> Tensor:
        """The batch with ``part`` added to the group's rows."""
        return batch + part if self.rows is None else batch.index_add(0, self.rows, part.to(batch))

    def scaled(self, factors: Sequence[Factors], keep: bool = False) -> Group[E] | None:
        """The group at other strengths, without the rows whose strength is 0, unless they are to be kept.

        Args:
            factors: of the entries' own strengths, for each row of the batch by the conditioner's name.
            keep: also what has strength 0.

        Returns:
            None where nothing is left.
        """
        strengths = [one.strength * factors[one.row].get(one.origin, 1.0) for one in self.members]
        members = [replace(one, strength=s) for one, s in zip(self.members, strengths, strict=True)]
        places = [place for place, strength in enumerate(strengths) if keep or strength != 0.0]
        kept = tuple(members[place] for place in places)
        if not kept:
            return None
        numbers = torch.tensor(
            [one.strength for one in kept], dtype=self.strength.dtype, device=self.strength.device
        )
        other = replace(self, strength=numbers, members=kept)
        if len(kept) == len(members):
            return other
        rows = torch.tensor([one.row for one in kept], device=self.strength.device)
        mask = None if self.mask is None else self.mask[places]
        return replace(other, rows=rows, state=self.state[places], mask=mask)
