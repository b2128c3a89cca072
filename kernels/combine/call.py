"""The arguments of the custom operator, packed and unpacked in this one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..packed import Packed
from .update import KINDS, Rescale, Update

SCHEMA = (
    "Tensor[] predictions, float[] coefficients, Tensor latents, Tensor? before, SymInt kind, float[] numbers, "
    "float share, float[]? rescale"
)
"""Types and names of a `Call`'s fields, in their order, as PyTorch writes them."""


@dataclass(frozen=True, eq=False)
class Call(Packed):
    """The arguments of one call.

    Args:
        predictions: N of (s, c, h, w).
        coefficients: of all; the last is not read, being what the others lack to 1.
        latents: (s, c, h, w).
        before: clean latents of the step before, or None.
        kind: place in `update.KINDS`.
        numbers: of `Update`.
        share: of the rescale; 0 without.
        rescale: its coefficients, likewise; None without.
    """

    predictions: Sequence[Tensor]
    coefficients: Sequence[float]
    latents: Tensor
    before: Tensor | None
    kind: int
    numbers: Sequence[float]
    share: float
    rescale: Sequence[float] | None

    @staticmethod
    def of(
        predictions: Sequence[Tensor],
        coefficients: Sequence[float],
        latents: Tensor,
        update: Update,
        before: Tensor | None,
        rescale: Rescale | None,
    ) -> Call:
        """From the arguments of `reference`."""
        return Call(
            list(predictions),
            _whole(coefficients),
            latents,
            before if update.second_order else None,
            KINDS.index(update.kind),
            update.numbers,
            0.0 if rescale is None else rescale.share,
            None if rescale is None else _whole(rescale.coefficients),
        )

    @property
    def update(self) -> Update:
        return Update.of(self.kind, self.numbers)

    @property
    def unpacked(
        self,
    ) -> tuple[Sequence[Tensor], Sequence[float], Tensor, Update, Tensor | None, Rescale | None]:
        """The arguments of `reference`."""
        rescale = None if self.rescale is None else Rescale(self.share, tuple(self.rescale[:-1]))
        return self.predictions, self.coefficients[:-1], self.latents, self.update, self.before, rescale


def _whole(coefficients: Sequence[float]) -> list[float]:
    return [*coefficients, 1.0 - sum(coefficients)]
