"""Pictures drawn when a step asks for them: no two steps see the same one, and nothing is kept on disk."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...training.pictures import pixels
from ..scenes import Picture, portrait, sample
from ..subjects import TRAIN_SUBJECTS

SEEDS = 2**31


def _drawn(pictures: list[Picture]) -> Float[Tensor, "n 3 h w"]:
    if not pictures:
        return torch.zeros(0, 3, 128, 128)
    return pixels(np.stack([picture.image() for picture in pictures]))


class Drawn:
    """Training scenes and portraits in [-1, 1], and the first held-out scenes to measure by."""

    def images(self, rng: torch.Generator, n: int) -> Float[Tensor, "n 3 h w"]:
        """``n`` scenes of the train split."""
        return _drawn([sample(seed) for seed in torch.randint(SEEDS, (n,), generator=rng).tolist()])

    def portraits(self, rng: torch.Generator, n: int) -> Float[Tensor, "n 3 h w"]:
        """``n`` portraits of subjects of the train split."""
        who = torch.randint(len(TRAIN_SUBJECTS), (n,), generator=rng).tolist()
        seeds = torch.randint(SEEDS, (n,), generator=rng).tolist()
        return _drawn([portrait(TRAIN_SUBJECTS[i], seed) for i, seed in zip(who, seeds, strict=True)])

    def first(self, n: int) -> Float[Tensor, "n 3 h w"]:
        """The first ``n`` scenes of the split "held_out"."""
        return _drawn([sample(seed, split="held_out") for seed in range(n)])
