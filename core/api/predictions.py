"""What the UNet predicted for each branch, and weighted sums of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .branches import Branch, LinearForm


class Predictions(Mapping[Branch, Tensor]):
    """Predictions by branch, each of shape (samples, channels, height, width).

    They are read in float32, or in float64 from a model in float64.
    """

    def __init__(self, by_branch: Mapping[Branch, Tensor]) -> None:
        self._by_branch = dict(by_branch)

    def __getitem__(self, branch: Branch) -> Tensor:
        prediction = self._by_branch[branch]
        return prediction.to(torch.promote_types(prediction.dtype, torch.float32))

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._by_branch)

    def __len__(self) -> int:
        return len(self._by_branch)

    def raw(self, form: LinearForm) -> tuple[list[Float[Tensor, "s c h w"]], list[float]]:
        """A form's predictions as the UNet gave them, and the coefficients of all but the last."""
        support = form.support()
        return [self._by_branch[branch] for branch in support], list(support.values())[:-1]

    def sum(self, form: LinearForm) -> Float[Tensor, "s c h w"]:
        """The value of a form whose coefficients sum to 1.

        Written as ``base + sum_i c_i (e_i - base)``, which is the same number and, with the last branch as the base,
        the very arithmetic of classifier-free guidance in other libraries: ``null + scale * (text - null)``.
        """
        *others, (base, _) = form.support().items()
        total = self[base]
        for branch, coefficient in others:
            total = total + coefficient * (self[branch] - self[base])
        return total
