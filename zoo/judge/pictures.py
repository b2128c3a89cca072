"""Renders to train and to measure on, and distortions that liken them to decoded diffusion outputs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from ..world import BACKGROUNDS, COLORS, NOUNS, PATTERNS, Picture, compose, portrait, sample, subject
from .networks import SIZE

T = TypeVar("T")
MOST = 4
"""Objects in a picture, at most."""
_COLORS = tuple(COLORS)
_BINOMIAL = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16


@dataclass(frozen=True)
class Scenes:
    """Pictures and what is in them. A word is its place in the world's list; -1 says that there is none.

    Args:
        images: [b, 3, 64, 64], 0 to 255.
        boxes: (left, top, right, bottom) in fractions [b, 4, 4].
        words: noun, colour and pattern of every object [b, 4, 3].
        background: [b].
    """

    images: UInt8[Tensor, "b 3 64 64"]
    boxes: Float[Tensor, "b 4 4"]
    words: Int[Tensor, "b 4 3"]
    background: Int[Tensor, "b"]


@dataclass(frozen=True)
class Views:
    """Pictures ``images`` that show the subject of number ``subject`` in ``boxes`` [n, 4] (fractions)."""

    images: UInt8[Tensor, "n 3 64 64"]
    boxes: Float[Tensor, "n 4"]
    subject: Int[Tensor, "n"]


@dataclass(frozen=True)
class Labelled:
    """Pictures ``images``, and what each of their pixels shows: 0 the background, 1 + a noun's place."""

    images: UInt8[Tensor, "b 3 64 64"]
    labels: UInt8[Tensor, "b 64 64"]


def _image(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.image(SIZE)).permute(2, 0, 1).contiguous()


def scenes(seeds: Sequence[int], split: str, subjects: float = 0.2) -> Scenes:
    """The pictures ``sample(seed, split)`` of the seeds; ``subjects`` is the share of objects that are one."""
    pictures = [sample(seed, split, subjects=subjects) for seed in seeds]
    boxes, words = torch.zeros(len(pictures), MOST, 4), torch.full((len(pictures), MOST, 3), -1)
    for i, picture in enumerate(pictures):
        for j, thing in enumerate(picture.objects):
            boxes[i, j] = torch.tensor(thing.box)
            words[i, j, 0] = NOUNS.index(thing.noun)
            if thing.color is not None and thing.pattern is not None:
                words[i, j, 1:] = torch.tensor([_COLORS.index(thing.color), PATTERNS.index(thing.pattern)])
    background = torch.tensor([BACKGROUNDS.index(picture.background) for picture in pictures])
    return Scenes(torch.stack([_image(picture) for picture in pictures]), boxes, words, background)


def labels(picture: Picture) -> UInt8[Tensor, "64 64"]:
    """What each pixel shows: 0 the background, 1 + a noun's place."""
    shown = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    for thing, mask in zip(picture.objects, picture.masks(SIZE), strict=True):
        shown[torch.from_numpy(mask)] = 1 + NOUNS.index(thing.noun)
    return shown


def labelled(seeds: Sequence[int], split: str, subjects: float = 0.2) -> Labelled:
    """The pictures ``sample(seed, split)`` and their labels; ``subjects`` is the share of objects that are one."""
    pictures = [sample(seed, split, subjects=subjects) for seed in seeds]
    return Labelled(torch.stack([_image(p) for p in pictures]), torch.stack([labels(p) for p in pictures]))


def subject_scene(identifier: int, seed: int) -> Picture:
    """The subject, first of the objects, among one or two ordinary ones on a random background."""
    rng = np.random.default_rng([5, identifier, seed])
    nouns = [str(n) for n in rng.permutation([n for n in NOUNS if n != subject(identifier).noun])]
    others = [
        (noun, _COLORS[rng.integers(len(_COLORS))], PATTERNS[rng.integers(len(PATTERNS))], None, None)
        for noun in nouns[: 1 + int(rng.integers(2))]
    ]
    wanted = (subject(identifier).noun, None, None, None, identifier)
    return compose(BACKGROUNDS[rng.integers(len(BACKGROUNDS))], [wanted, *others], int(rng.integers(2**31)))


def views(identifiers: Sequence[int], seeds: Sequence[int], portraits: bool) -> Views:
    """Every subject once per seed, in portraits or in scenes."""
    pairs = [(number, seed) for number in identifiers for seed in seeds]
    pictures = [(portrait if portraits else subject_scene)(*pair) for pair in pairs]
    boxes = torch.tensor([picture.objects[0].box for picture in pictures])
    return Views(torch.stack([_image(p) for p in pictures]), boxes, torch.tensor([n for n, _ in pairs]))


def in_parallel(make: Callable[[Sequence[int]], T], numbers: Sequence[int], workers: int = 2) -> list[T]:
    """``make`` of consecutive parts of ``numbers``, in order, in ``workers`` processes."""
    size = 500
    parts = [numbers[i : i + size] for i in range(0, len(numbers), size)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(make, parts))


def _some(rng: torch.Generator, count: int, share: float) -> Bool[Tensor, "b"]:
    return torch.rand(count, generator=rng) < share


def _between(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=rng) * (high - low) + low


def _quantized(
    images: Float[Tensor, "b 3 h w"], step: Float[Tensor, "b 1 1 1 1 1"]
) -> Float[Tensor, "b 3 h w"]:
    """JPEG's loss: coefficients of 8 x 8 cosine blocks rounded, coarser for higher frequencies."""
    k = torch.arange(8.0)
    basis = torch.cos((k + 0.5) * k[:, None] * torch.pi / 8) * 0.5  # frequency x place
    basis[0] *= 0.5**0.5
    b, c, h, w = images.shape
    blocks = images.reshape(b, c, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)  # b c H W 8 8
    steps = step * (1 + k[:, None] + k)
    waves = ((basis @ blocks @ basis.T) / steps).round() * steps
    return (basis.T @ waves @ basis).permute(0, 1, 2, 4, 3, 5).reshape(b, c, h, w)


def distort(images: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Pictures in [0, 1], some blurred, smoothed as by an autoencoder, block-quantised, recoloured, noisy.

    The changes of colour are small: after them a colour still has its name.
    """
    b = len(images)
    each = (b, 1, 1, 1)
    gains = _between(rng, 0.93, 1.06, *each) * _between(rng, 0.97, 1.03, b, 3, 1, 1)
    x = images * gains + _between(rng, -0.03, 0.03, *each)
    x = x.mean(1, keepdim=True).lerp(x, _between(rng, 0.85, 1.12, *each))
    kernel = _BINOMIAL.expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    x = x.lerp(blurred, _between(rng, 0, 1.0, *each) * _some(rng, b, 0.45).view(each))
    low = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    x = x.lerp(low, _between(rng, 0, 0.7, *each) * _some(rng, b, 0.35).view(each))
    coarse = _between(rng, 0.005, 0.03, b, 1, 1, 1, 1, 1)
    x = torch.where(_some(rng, b, 0.3).view(each), _quantized(x, coarse), x)
    sigma = _between(rng, 0, 0.03, *each) * _some(rng, b, 0.5).view(each)
    noise = torch.randn(x.shape, generator=rng)
    patches = F.interpolate(
        torch.randn(b, 3, 8, 8, generator=rng), scale_factor=x.shape[-1] / 8, mode="bilinear"
    )
    return (x + sigma * (noise + 0.7 * patches)).clamp(0, 1)
