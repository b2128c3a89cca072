"""The arguments of the custom operator, packed and unpacked in this one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..packed import Packed
from .update import KINDS, Update

SCHEMA = (
    "Tensor[] predictions, float[] coefficients, Tensor latents, Tensor? before, SymInt kind, float[] numbers"
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
    """

    predictions: Sequence[Tensor]
    coefficients: Sequence[float]
    latents: Tensor
    before: Tensor | None
    kind: int
    numbers: Sequence[float]

    @staticmethod
    def of(
        predictions: Sequence[Tensor],
        coefficients: Sequence[float],
        latents: Tensor,
        update: Update,
        before: Tensor | None,
    ) -> Call:
        """From the arguments of `reference`."""
        return Call(
            list(predictions),
            [*coefficients, 1.0 - sum(coefficients)],
            latents,
            before if update.second_order else None,
            KINDS.index(update.kind),
            update.numbers,
        )

    @property
    def update(self) -> Update:
        return Update.of(self.kind, self.numbers)

    @property
    def unpacked(self) -> tuple[Sequence[Tensor], Sequence[float], Tensor, Update, Tensor | None]:
        """The arguments of `reference`."""
        return self.predictions, self.coefficients[:-1], self.latents, self.update, self.before
