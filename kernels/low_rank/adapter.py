"""What a layer is changed by, and the checks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import KernelError
from ..tensors import check_dtype


@dataclass(frozen=True, eq=False)
class Adapter:
    """A low-rank change of a linear layer (LoRA, Hu et al. 2022, arXiv 2106.09685, equation 3), somewhere.

    Args:
        down: A, which makes the input narrow.
        up: B, which makes it as wide as the output.
        strength: a number for each row that the adapter concerns; the axis may be 1. Where it is 0 nothing is added.
        mask: a factor for each of these rows and each position, for example a region of the image; the first axis
            may be 1. None is 1 everywhere.
        rows: which rows of the batch it concerns, each at most once; None is all of them, in order.
    """

    down: Float[Tensor, "k i"]
    up: Float[Tensor, "o k"]
    strength: Float[Tensor, " s"]
    mask: Float[Tensor, "s n"] | None = None
    rows: Int[Tensor, " s"] | None = None

    def factor(self) -> Float[Tensor, "_s _n 1"]:
        """Strength times mask; an axis of 1 stands for every row or position."""
        strength = self.strength[:, None]
        return (strength if self.mask is None else strength * self.mask)[..., None]


def scaled(narrow: Float[Tensor, "s n k"], factor: Float[Tensor, "#s #n 1"]) -> Float[Tensor, "s n k"]:
    """The product, which is 0 where the factor is, whatever has overflowed there. Differentiable in both, also at 0."""
    return factor.to(narrow) * guarded(narrow, factor)


def guarded(narrow: Float[Tensor, "s n k"], factor: Float[Tensor, "#s #n 1"]) -> Float[Tensor, "s n k"]:
    """The numbers, with 0 for those that have overflowed where the factor is 0: their product would be NaN."""
    return narrow.masked_fill((factor == 0) & ~narrow.isfinite(), 0.0)


def check(x: Tensor, base: Tensor, adapters: Sequence[Adapter]) -> None:
    """Refuse what no implementation can work on, with names and shapes.

    Raises:
        KernelError: a shape, type, device or row does not fit.
    """
    place = "low_rank, argument"
    for argument, given in (("x", x), ("base", base)):
        if given.ndim != 3 or 0 in given.shape:
            raise KernelError(
                f"{place} '{argument}'", "shape (r, n, d), nothing of it 0", str(tuple(given.shape))
            )
        check_dtype(f"{place} '{argument}'", given)
    r, n, wide_in = x.shape
    out = base.shape[2]
    if base.shape[:2] != x.shape[:2] or base.device != x.device:
        _refuse(f"{place} 'base'", f"shape {(r, n, out)} on {x.device}", base)
    if not adapters:
        raise KernelError(f"{place} 'adapters'", "at least one", "none")
    for number, adapter in enumerate(adapters):
        here = f"{place} 'adapters', number {number},"
        rank = adapter.down.shape[0] if adapter.down.ndim else 0
        count = r
        if adapter.rows is not None:
            count = len(adapter.rows) if adapter.rows.ndim == 1 else 0
            if not count or adapter.rows.dtype != torch.int64 or adapter.rows.device != x.device:
                _refuse(f"{here} 'rows'", f"some rows, as int64 on {x.device}", adapter.rows)
            _check_rows(f"{here} 'rows'", adapter.rows, r)
        wanted: dict[str, tuple[Tensor | None, list[tuple[int, ...]], str]] = {
            "down": (adapter.down, [(rank, wide_in)], f"(k, {wide_in})"),
            "up": (adapter.up, [(out, rank)], f"({out}, {rank})"),
            "strength": (adapter.strength, [(count,), (1,)], f"({count} or 1)"),
            "mask": (adapter.mask, [(count, n), (1, n)], f"({count} or 1, {n})"),
        }
        for name, (tensor, shapes, words) in wanted.items():
            if tensor is None:
                continue
            check_dtype(f"{here} '{name}'", tensor)
            if tuple(tensor.shape) not in shapes or 0 in tensor.shape or tensor.device != x.device:
                _refuse(f"{here} '{name}'", f"shape {words} on {x.device}", tensor)


def _check_rows(place: str, rows: Tensor, r: int) -> None:
    """On a CPU alone: on a GPU the answer would have to be waited for."""
    if rows.device.type != "cpu" or torch.compiler.is_compiling():
        return
    numbers = rows.tolist()
    if len(set(numbers)) < len(numbers) or min(numbers) < 0 or max(numbers) >= r:
        raise KernelError(place, f"rows of 0 to {r - 1}, each at most once", str(numbers))


def _refuse(place: str, expected: str, tensor: Tensor) -> None:
    raise KernelError(place, expected, f"{tuple(tensor.shape)} on {tensor.device}")
