"""What cross-attention reads beside its query: segments of keys and values, and regions of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..errors import KernelError
from ..tensors import check_dtype, described


@dataclass(frozen=True, eq=False)
class Segment:
    """Keys and values that share one softmax.

    Args:
        key: of every row, token and head.
        value: likewise.
        weight: factor of what the segment adds, a number for each row and position; the last axis may be 1.
            None is 1 everywhere.
    """

    key: Float[Tensor, "r t h d"]
    value: Float[Tensor, "r t h d"]
    weight: Float[Tensor, "r m"] | None = None


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments laid end to end along the tokens, so that one launch reads them all. Build it with `Segments.of`.

    Args:
        key: of all segments.
        value: likewise.
        lengths: tokens of each segment.
        weights: each segment's, in float32, or in float64 for float64; None when all are 1.
        weighted: which segments have weights that are not all 1.
    """

    key: Float[Tensor, "r t h d"]
    value: Float[Tensor, "r t h d"]
    lengths: tuple[int, ...]
    weights: Float[Tensor, "s r m"] | None = None
    weighted: tuple[bool, ...] = (False,)

    @staticmethod
    def of(segments: Sequence[Segment]) -> Segments:
        """Lay segments end to end.

        Raises:
            KernelError: there is none, or they do not fit each other.
        """
        place = "cross_attention, argument 'segments'"
        if not segments:
            raise KernelError(place, "at least one segment", "none")
        first = segments[0].key
        for number, one in enumerate(segments):
            if one.key.ndim != 4 or one.key.shape != one.value.shape:
                found = f"{tuple(one.key.shape)} and {tuple(one.value.shape)}"
                raise KernelError(
                    f"{place}, number {number}", "key and value of one shape (r, t, h, d)", found
                )
            like = (first.shape[0], one.key.shape[1], *first.shape[2:])
            if tuple(one.key.shape) != like or one.key.dtype != first.dtype or one.key.device != first.device:
                raise KernelError(
                    f"{place}, number {number}", described(first, like), described(one.key, one.key.shape)
                )
            if one.weight is not None and (one.weight.ndim != 2 or len(one.weight) != len(first)):
                raise KernelError(
                    f"{place}, number {number}, 'weight'",
                    f"shape ({len(first)}, 1) or ({len(first)}, positions)",
                    str(tuple(one.weight.shape)),
                )
        lengths = tuple(one.key.shape[1] for one in segments)
        if len(segments) == 1 and segments[0].weight is None:
            return Segments(first, segments[0].value, lengths)
        laid = Segments(
            torch.cat([one.key for one in segments], dim=1),
            torch.cat([one.value for one in segments], dim=1),
            lengths,
        )
        return laid.weighing([one.weight for one in segments])

    def weighing(self, weights: Sequence[Float[Tensor, "r _m"] | None]) -> Segments:
        """The same keys and values with other weights, one of each segment; None is 1.

        Raises:
            KernelError: the weights have different numbers of positions, other than 1.
        """
        rows = len(self.key)
        every = [self.key.new_ones(rows, 1) if weight is None else weight for weight in weights]
        most = max(weight.shape[1] for weight in every)
        if any(weight.shape[1] not in (1, most) for weight in every):
            shapes = ", ".join(str(tuple(weight.shape)) for weight in every)
            place = "cross_attention, argument 'segments', 'weight'"
            raise KernelError(place, "as many positions in all", shapes)
        wide = torch.promote_types(self.key.dtype, torch.float32)
        return replace(
            self,
            weights=torch.stack([weight.to(wide).expand(-1, most) for weight in every]),
            weighted=tuple(weight is not None for weight in weights),
        )

    def only_first(self) -> Segments:
        """The first segment alone, which has no weight then."""
        length = self.lengths[0]
        return Segments(self.key[:, :length], self.value[:, :length], (length,))

    def without_first(self) -> Segments:
        """The others; there must be some."""
        start = self.lengths[0]
        weights = None if self.weights is None else self.weights[1:]
        return Segments(
            self.key[:, start:], self.value[:, start:], self.lengths[1:], weights, self.weighted[1:]
        )

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Start and stop of every segment among the tokens."""
        start = 0
        for length in self.lengths:
            yield start, start + length
            start += length


@dataclass(frozen=True, eq=False)
class Regions:
    """What is added to the scores, of low rank: ``sum over g of space[g, position] * tokens[g, token]``.

    Args:
        space: for example the logarithm of a mask; finite, so use -1e4 and not minus infinity.
        tokens: which tokens a region concerns, 1 or 0. Tokens past its last axis have no region.
    """

    space: Float[Tensor, "r g n"]
    tokens: Float[Tensor, "r g t"]
    _dense: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    def dense(self, start: int, stop: int) -> Float[Tensor, "r 1 n t"] | None:
        """The whole matrix for some tokens; None where none of them has a region. Kept for the next call."""
        if start >= self.tokens.shape[-1]:
            return None
        if torch.compiler.is_compiling() or self.space.requires_grad or self.tokens.requires_grad:
            return self._made(start, stop)
        if (start, stop) not in self._dense:
            self._dense[start, stop] = self._made(start, stop)
        return self._dense[start, stop]

    def after(self, start: int) -> Regions | None:
        """Of the tokens from ``start`` on; None where none of them has a region."""
        return None if start >= self.tokens.shape[-1] else Regions(self.space, self.tokens[..., start:])

    def _made(self, start: int, stop: int) -> Tensor:
        tokens = self.tokens[..., start:stop]
        bias = torch.einsum("rgn,rgt->rnt", self.space, tokens.to(self.space))
        missing = stop - start - tokens.shape[-1]
        return rearrange(torch.nn.functional.pad(bias, (0, missing)) if missing else bias, "r n t -> r 1 n t")


def check(query: Tensor, segments: Segments, regions: Regions | None, rows: slice) -> None:
    """Refuse what no implementation can work on, with names and shapes.

    Raises:
        KernelError: a shape, type or device does not fit.
    """
    if query.ndim != 4 or 0 in query.shape:
        raise KernelError(
            "cross_attention, argument 'query'",
            "shape (r, n, h, d), nothing of it 0",
            str(tuple(query.shape)),
        )
    r, n, h, d = query.shape
    key = segments.key
    check_dtype("cross_attention, argument 'query'", query)
    if (key.shape[0], *key.shape[2:]) != (r, h, d) or key.dtype != query.dtype or key.device != query.device:
        wanted = described(query, (r, key.shape[1], h, d))
        raise KernelError("cross_attention, argument 'segments'", wanted, described(key, key.shape))
    if 0 in segments.lengths or sum(segments.lengths) != key.shape[1]:
        raise KernelError(
            "cross_attention, argument 'segments'",
            f"lengths above 0 that add up to {key.shape[1]}",
            str(segments.lengths),
        )
    weights = segments.weights
    if weights is not None and tuple(weights.shape) not in (
        (len(segments.lengths), r, 1),
        (len(segments.lengths), r, n),
    ):
        raise KernelError(
            "cross_attention, argument 'segments', 'weights'",
            f"shape ({len(segments.lengths)}, {r}, 1 or {n})",
            str(tuple(weights.shape)),
        )
    if regions is not None:
        space, tokens = tuple(regions.space.shape), tuple(regions.tokens.shape)
        if len(space) != 3 or space != (r, space[1], n):
            raise KernelError(
                "cross_attention, argument 'regions', 'space'", f"shape ({r}, g, {n})", str(space)
            )
        if len(tokens) != 3 or tokens[:2] != space[:2]:
            raise KernelError(
                "cross_attention, argument 'regions', 'tokens'", f"shape ({r}, {space[1]}, t)", str(tokens)
            )
        if tokens[2] > key.shape[1]:
            wanted = f"at most the {key.shape[1]} tokens of the segments"
            raise KernelError("cross_attention, argument 'regions', 'tokens'", wanted, f"{tokens[2]} tokens")
    first, last = span(rows, r)
    if first >= last:
        raise KernelError("cross_attention, argument 'rows'", f"some of {r} rows", str(rows))


def check_finite(query: Tensor, key: Tensor) -> None:
    """Refuse numbers that are not finite; reads the whole of both.

    Raises:
        KernelError: there is such a number.
    """
    for name, tensor in (("query", query), ("key", key)):
        # a sum is not finite when a term is not, and it makes no copy; where the sum alone overflows, look again
        if not bool(torch.isfinite(tensor.detach().sum())) and not bool(torch.isfinite(tensor).all()):
            raise KernelError(
                f"cross_attention, argument '{name}'",
                "finite numbers",
                f"NaN or infinity in {tuple(tensor.shape)}",
            )


def span(rows: slice, r: int) -> tuple[int, int]:
    """First row and the one after the last, of ``r``."""
    first, last, _ = rows.indices(r)
    return first, last
