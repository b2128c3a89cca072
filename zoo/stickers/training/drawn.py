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
    return pixels(np.stack([picture.image() for picture in pictures]))


class Drawn:
    """Training scenes and portraits in [-1, 1], and the first held-out scenes to measure by."""

    def batch(
        self, rng: torch.Generator, n: int, portraits: int
    ) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]:
        """``n - portraits`` scenes, then portraits, of the train split, and which pixels are of a thing, 0 or 1."""
        pictures = [sample(seed) for seed in torch.randint(SEEDS, (n - portraits,), generator=rng).tolist()]
        who = torch.randint(len(TRAIN_SUBJECTS), (portraits,), generator=rng).tolist()
        seeds = torch.randint(SEEDS, (portraits,), generator=rng).tolist()
        pictures += [portrait(TRAIN_SUBJECTS[i], seed) for i, seed in zip(who, seeds, strict=True)]
        shown = np.stack([picture.masks().any(0) for picture in pictures])
        return _drawn(pictures), torch.from_numpy(shown)[:, None].float()

    def first(self, n: int) -> Float[Tensor, "n 3 h w"]:
        """The first ``n`` scenes of the split "held_out"."""
        return _drawn([sample(seed, split="held_out") for seed in range(n)])
