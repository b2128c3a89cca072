"""Starts the Triton kernel: block sizes, strides and constants from the tensors' shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Final

from torch import Tensor

from ..device import tile
from .adapter import Adapter
from .call import Call

MOST: Final = 30
"""Adapters of one launch, which notes in the bits of a number which of them a block concerns."""
STAGES: Final = 3
"""Of loads that are on their way while the matrix units work."""
PROGRAMS: Final = 132
"""As many as an H100 or H200 has multiprocessors: with fewer blocks of positions than this the output is split too."""


@dataclass(frozen=True)
class Constants:
    """What the kernel is compiled for.

    Args:
        ranks: of each adapter.
        masked: which have a mask.
        listed: which concern some rows only.
        added: whether there is something that they are added to.
        exact: float32 arithmetic, for float32 tensors; otherwise that of the matrix units.
    """

    ranks: tuple[int, ...]
    masked: tuple[bool, ...]
    listed: tuple[bool, ...]
    added: bool = True
    exact: bool = False

    @property
    def warps(self) -> int:
        """8 where 4 would have more than 255 registers a thread (counted by the compiler for Hopper)."""
        return 8 if self.exact else 4

    @property
    def width(self) -> int:
        """Channels of all narrow tensors side by side, each padded to its tile."""
        return sum(map(tile, self.ranks))

    @property
    def arguments(self) -> dict[str, Any]:
        """The kernel's compile-time arguments."""
        tiles = tuple(map(tile, self.ranks))
        return {
            "K": len(self.ranks),
            "RANKS": self.ranks,
            "TILES": tiles,
            "STARTS": tuple(accumulate(tiles[:-1], initial=0)),
            "WIDTH": self.width,
            "MASKED": self.masked,
            "LISTED": self.listed,
            "ADDED": self.added,
            "BLOCK_M": 32 if self.exact else 64,
            "BLOCK_I": 32 if self.exact else 64,
            "BLOCK_O": 64,
            "PRECISION": "ieee",
        }


def pieces(adapters: Sequence[Adapter], exact: bool) -> list[Adapter]:
    """The adapters, those of a rank beyond one matrix product's cut into several; views, no copies.

    Args:
        adapters: of one call.
        exact: see `Constants`; float32 has no matrix units here, and tiles of 64 spilled with five of them.
    """
    most = 32 if exact else 128
    return [
        replace(one, down=one.down[start : start + most], up=one.up[:, start : start + most])
        for one in adapters
        for start in range(0, one.down.shape[0], most)
    ]


def forward(call: Call, out: Tensor) -> None:
    """Write the output."""
    from .triton_kernels import low_rank_kernel

    exact = call.x.dtype.itemsize == 4
    adapters = pieces(call.adapters, exact)
    constants = Constants(
        ranks=tuple(one.down.shape[0] for one in adapters),
        masked=tuple(one.mask is not None for one in adapters),
        listed=tuple(one.rows is not None for one in adapters),
        added=call.base is not None,
        exact=exact,
    )
    arguments = constants.arguments
    x, base = call.x.contiguous(), out if call.base is None else call.base.contiguous()
    r, positions, wide_in = x.shape
    blocks, tiles = -(-r * positions // arguments["BLOCK_M"]), -(-out.shape[2] // arguments["BLOCK_O"])
    # every part of the output makes the narrow tensors anew
    share = -(-tiles // min(tiles, -(-PROGRAMS // blocks)))
    parts = -(-tiles // share)
    narrow = x.new_empty(parts, r * positions, constants.width)

    counts = [r if one.rows is None else len(one.rows) for one in adapters]
    # an axis of 1 stands for every row: a step of 0, and no copy
    strengths = [one.strength.expand(count) for one, count in zip(adapters, counts, strict=True)]
    masks = [
        x if one.mask is None else _rows(one.mask).expand(count, -1)
        for one, count in zip(adapters, counts, strict=True)
    ]
    low_rank_kernel[blocks, parts](
        x, base, out, narrow,
        tuple(one.down for one in adapters), tuple(one.up for one in adapters), tuple(strengths), tuple(masks),
        tuple(x if one.rows is None else one.rows.contiguous() for one in adapters),
        tuple(one.down.stride(0) for one in adapters), tuple(one.down.stride(1) for one in adapters),
        tuple(one.up.stride(0) for one in adapters), tuple(one.up.stride(1) for one in adapters),
        tuple(one.stride(0) for one in strengths), tuple(one.stride(0) for one in masks), tuple(counts),
        r * positions, positions, wide_in, out.shape[2], share,
        **arguments, num_warps=constants.warps, num_stages=STAGES,
    )  # fmt: skip


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
