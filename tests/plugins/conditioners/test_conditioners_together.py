"""The trained conditioners in one generation: every subset, in any order."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from helpers import subject_models as models

import weft
from weft.core.api.registry import registry
from weft.plugins.conditioners.grounding.networks import GroundingNetworks
from weft.plugins.conditioners.pseudo_word.networks import PseudoWordNetworks
from weft.testing import random_unet

SCENE = weft.Scene(
    "a toy and a star on grass",
    [
        weft.Subject("toy", box=(0.0, 0.25, 0.5, 1.0), images=[models.picture(0), models.picture(1)]),
        weft.Subject("star", mask=models.bright((18, 4, 30, 28)), images=[models.picture(2)]),
        weft.Subject("grass", box=(0.0, 0.5, 1.0, 1.0)),
    ],
)
NAMES = ("pseudo_word", "grounding", "mask_location", "subject_adapter")
SUBSETS = [names for size in range(5) for names in itertools.combinations(NAMES, size)]


@functools.cache
def pipeline():
    pipe = models.pipeline()
    torch.manual_seed(0)
    unet, folder = random_unet(), pipe.folder
    for name, made in {
        "grounding": GroundingNetworks.create(unet, 32, 24),
        "pseudo_word": PseudoWordNetworks.create(unet, 24, 32, 2, models.LAYERS),
    }.items():
        models.write(models.opened(made, seed=2), folder / "weft" / f"{name}.safetensors")
    return pipe


@functools.cache
def draw(*names: str) -> torch.Tensor:
    guidance = [weft.ClassifierFree(3.0)]
    return pipeline().generate(SCENE, names, seeds=[0, 1], steps=1, guidance=guidance).latents


def test_every_subset_draws_another_picture() -> None:
    for one, other in itertools.combinations(SUBSETS, 2):
        assert not torch.allclose(draw(*one), draw(*other), atol=1e-4), (one, other)
    assert all(bool(torch.isfinite(draw(*names)).all()) for names in SUBSETS)


def test_the_order_matters_only_between_modules_of_one_block() -> None:
    for order in itertools.permutations(NAMES):
        blocks = [name for name in order if name in ("grounding", "subject_adapter")]
        same = draw(*(name for name in NAMES if name not in blocks), *blocks)
        assert torch.allclose(draw(*order), same, atol=1e-3), order


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_among_the_others_is_absence(name) -> None:
    kinds: list[Any] = [registry().plugin(one, "conditioner") for one in NAMES]
    chosen = [kind(strength=float(one != name)) for one, kind in zip(NAMES, kinds, strict=True)]
    guidance = [weft.ClassifierFree(3.0)]
    drawn = pipeline().generate(SCENE, chosen, seeds=[0, 1], steps=1, guidance=guidance).latents
    assert torch.equal(drawn, draw(*(one for one in NAMES if one != name)))
