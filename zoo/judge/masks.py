"""How well the judge labels pixels, against the visible pixels of every object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...core.report.statistics import clustered_interval
from ..world import NOUNS, Picture
from .networks import SIZE
from .pictures import labels


@dataclass(frozen=True)
class Mean:
    """The mean ``share`` of ``n`` values in [0, 1], with a 95 % interval."""

    share: float
    n: int
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.2f} % | {self.n} | {100 * low:.2f} to {100 * high:.2f}"


def mean(values: Float[Tensor, "n"], picture: Int[Tensor, "n"]) -> Mean:
    """The mean of values in [0, 1], each of a ``picture`` whose other values may go with it.

    Values of fewer than two pictures leave the interval at [0, 1].
    """
    values = values.double()
    share = values.mean().item() if len(values) else 0.0
    return Mean(share, len(values), clustered_interval(values.numpy(), picture.numpy()))


def mask_means(pictures: Sequence[Picture], seen: Int[Tensor, "b 64 64"]) -> dict[str, Mean]:
    """Shares of right pixels over pictures, and over objects, then over subjects alone, the intersection over union
    of an object's visible pixels and those seen as its noun, and the share of its pixels that are seen so.

    Pixels of another object of the same noun count neither for an object nor against it.
    """
    right = torch.tensor([
        (labels(picture) == shown).double().mean().item() for picture, shown in zip(pictures, seen, strict=True)
    ])  # fmt: skip
    rows: list[tuple[float, float, int, bool]] = []
    for number, (picture, shown) in enumerate(zip(pictures, seen, strict=True)):
        truth = labels(picture)
        for thing, mask in zip(picture.objects, torch.from_numpy(picture.masks(SIZE)), strict=True):
            label = 1 + NOUNS.index(thing.noun)
            alike = (shown == label) & ~((truth == label) & ~mask)
            shared = int((alike & mask).sum())
            union, size = int((alike | mask).sum()), int(mask.sum())
            if size:
                rows.append((shared / union, shared / size, number, thing.subject is not None))
    table = torch.tensor(rows, dtype=torch.float64).view(-1, 4)
    found = {"pixel: background or its noun right": mean(right, torch.arange(len(pictures)))}
    for name, part in (("object", table), ("subject", table[table[:, 3] > 0])):
        found[f"{name}: IoU of its mask, mean"] = mean(part[:, 0], part[:, 2].long())
        found[f"{name}: share of its pixels found, mean"] = mean(part[:, 1], part[:, 2].long())
    return found
