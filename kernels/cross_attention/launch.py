"""Starts the Triton kernels: block sizes, strides and constants from the tensors' shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..device import tile
from .call import Call

LARGEST_HEAD = 256


@dataclass(frozen=True)
class Constants:
    """What a kernel is compiled for.

    Args:
        head: size of a head.
        lengths: tokens of each segment.
        regions, region_tokens: of the low-rank bias; 0 without.
        capture: whether the first segment's maps are written.
        weighted: whether the segments have weights.
        exact: float32 arithmetic, for float32 tensors; otherwise that of the matrix units.
    """

    head: int
    lengths: tuple[int, ...]
    regions: int = 0
    region_tokens: int = 0
    capture: bool = False
    weighted: bool = False
    exact: bool = False

    @property
    def warps(self) -> int:
        """8 where 4 would have more than 255 registers a thread (counted by the compiler for Hopper)."""
        return 8 if self._head_block > 128 or self.capture or self.exact else 4

    @property
    def arguments(self) -> dict[str, Any]:
        """The kernels' compile-time arguments."""
        starts = tuple(sum(self.lengths[:number]) for number in range(len(self.lengths)))
        # float32 tiles take twice the shared memory
        largest = 32 if self.exact else 128
        return {
            "SEGMENTS": len(self.lengths),
            "STARTS": starts,
            "LENGTHS": self.lengths,
            "TILES": tuple(min(largest, tile(length)) for length in self.lengths),
            "D": self.head,
            "G": self.regions,
            "B": self.region_tokens,
            "CAPTURE": self.capture,
            "WEIGHTED": self.weighted,
            "BLOCK_N": 32 if self.exact else 64,
            "BLOCK_D": self._head_block,
            "PRECISION": "ieee",
        }

    @property
    def _head_block(self) -> int:
        return tile(self.head)


def forward(call: Call, out: Tensor, maps: Tensor) -> None:
    """Write output and maps."""
    from .triton_kernels import forward_kernel

    query, key, value = _rows(call.query), _rows(call.key), _rows(call.value)
    _start(forward_kernel, call, query, (query, key, value, out), maps, (query, key, value))


def backward(call: Call, given: Tensor | None, given_maps: Tensor | None, out: Tensor) -> None:
    """Write the query's gradient."""
    from .triton_kernels import backward_kernel

    query, key, value = _rows(call.query), _rows(call.key), _rows(call.value)
    given = torch.zeros_like(out) if given is None else given.contiguous()
    if given_maps is None and call.capture:
        given_maps = call.empty_maps().zero_()
    maps = query if given_maps is None else given_maps.contiguous()
    tensors = (query, key, value, given, maps, out)
    _start(backward_kernel, call, query, tensors, None, (query, key, value))


def _start(
    kernel: Any,
    call: Call,
    query: Tensor,
    tensors: tuple[Tensor, ...],
    maps: Tensor | None,
    strided: tuple[Tensor, ...],
) -> None:
    rows, positions, heads, width = query.shape
    constants = _constants(call)
    arguments = constants.arguments
    # an argument that is not read still needs a pointer
    optional = [
        query if one is None else one.contiguous() for one in (call.weights, call.space, call.members)
    ]
    last = () if maps is None else (maps,)
    strides = [stride for tensor in strided for stride in tensor.stride()[:3]]
    step = 1 if call.weights is not None and call.weights.shape[-1] == positions and positions > 1 else 0
    grid = (-(-positions // arguments["BLOCK_N"]), rows * heads)
    kernel[grid](
        *tensors,
        *optional,
        *last,
        *strides,
        width**-0.5,
        rows,
        heads,
        positions,
        call.first,
        call.last,
        step,
        **arguments,
        num_warps=constants.warps,
        num_stages=1,
    )


def _constants(call: Call) -> Constants:
    return Constants(
        head=call.query.shape[-1],
        lengths=tuple(call.lengths),
        regions=0 if call.space is None else call.space.shape[1],
        region_tokens=0 if call.members is None else call.members.shape[2],
        capture=call.capture,
        weighted=call.weights is not None,
        exact=call.query.dtype == torch.float32,
    )


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
