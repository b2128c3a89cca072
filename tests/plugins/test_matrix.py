"""Everything at once, and every pair of a trained conditioner and a guidance strategy."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from helpers import subject_models as models

import weft
from weft.core.api.registry import registry
from weft.plugins.conditioners.fusion_text.networks import FusionTextNetworks
from weft.plugins.conditioners.grounding.networks import GroundingNetworks
from weft.plugins.conditioners.pseudo_word.networks import PseudoWordNetworks
from weft.testing import random_unet

SCENE = weft.Scene(
    "a toy and a red star on grass",
    [
        weft.Subject("toy", box=(0.0, 0.25, 0.5, 1.0), images=[models.picture(0)]),
        weft.Subject("star", box=(0.5, 0.0, 1.0, 0.6), images=[models.picture(1)]),
    ],
)
CONDITIONERS = ("pseudo_word", "fusion_text", "grounding", "mask_location", "subject_adapter")
STRATEGIES = {
    "attend_and_excite": lambda name: [weft.AttendAndExcite(2e3, thresholds={1: 0.5}, updates=2)],
    "classifier_free": lambda name: [weft.ClassifierFree(7.5, rescale=0.5)],
    "composable": lambda name: [weft.Composable(5.0, subjects=(3.0, -2.0))],
    "delayed": lambda name: [weft.Delayed(name, (0.0, 0.5))],
    "diffusers_guider": lambda name: [weft.DiffusersGuider("AdaptiveProjectedGuidance")],
    "fusing": lambda name: [weft.Fusing(0.5, name), weft.ClassifierFree(3.0)],
    "instruct": lambda name: [weft.Instruct(7.5, 1.5, name)],
    "layout": lambda name: [weft.Layout(300.0, threshold=0.0, updates=2)],
    "pag": lambda name: [weft.ClassifierFree(3.0), weft.PAG(50.0)],
    "sag": lambda name: [weft.ClassifierFree(3.0), weft.SAG(20.0)],
}
ABOUT_A_CONDITIONER = {"delayed", "fusing", "instruct"}


@functools.cache
def pipeline() -> weft.Pipeline:
    pipe = models.pipeline()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = random_unet()
        made = {
            "grounding": GroundingNetworks.create(unet, 32, 24),
            "pseudo_word": PseudoWordNetworks.create(unet, 24, 32, 2, models.LAYERS),
            "fusion_text": FusionTextNetworks.create(pipe.text.model, unet, 24, 32, 2),
        }
        for name, networks in made.items():
            models.write(models.opened(networks, seed=2), pipe.folder / "weft" / f"{name}.safetensors")
    return pipe


@functools.cache
def draw(conditioner: str | None = None, strategy: str | None = None) -> torch.Tensor:
    conditioners = [] if conditioner is None else [conditioner]
    guidance = [] if strategy is None else STRATEGIES[strategy](conditioner)
    return pipeline().generate(SCENE, conditioners, guidance, seeds=[5], steps=2).latents


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).abs().max()) > 1e-4


def test_every_strategy_of_ours_is_in_the_matrix() -> None:
    ours = {
        found.value.name
        for found in registry().plugins()
        if found.value.kind == "guidance" and found.value.__module__.startswith("weft.plugins.")
    }
    assert set(STRATEGIES) == ours - {"keep_source"}  # needs an image to edit


@pytest.mark.parametrize(("conditioner", "strategy"), list(itertools.product(CONDITIONERS, STRATEGIES)))
def test_pair(conditioner: str, strategy: str) -> None:
    both = draw(conditioner, strategy)
    assert bool(torch.isfinite(both).all())
    assert differ(both, draw(conditioner)), "the strategy has no effect"
    alone = draw() if strategy in ABOUT_A_CONDITIONER else draw(None, strategy)
    assert differ(both, alone), "the conditioner has no effect"


NAMES = ("pseudo_word", "grounding", "mask_location", "subject_adapter")
CHAIN = (
    weft.AttendAndExcite(200.0, thresholds={0: 0.9}, updates=2),
    weft.Layout(100.0, threshold=0.0, updates=2),
    weft.Fusing(0.5),
    weft.ClassifierFree(7.5),
)


def everything(names=NAMES, chain=CHAIN, seeds=(0, 1, 2, 3), **options) -> weft.Result:
    options = {"height": 48, "width": 32, "steps": 2, "attention": False, **options}
    return pipeline().generate(SCENE, names, chain, seeds=seeds, **options)


@pytest.fixture(scope="module")
def whole() -> weft.Result:
    return everything()


def test_everything_at_once_is_reproducible_bit_for_bit(whole) -> None:
    assert whole.latents.shape == (4, 4, 12, 8)
    assert bool(torch.isfinite(whole.latents).all())
    again = everything()
    assert torch.equal(again.latents, whole.latents)
    assert [a.tobytes() for a in again.images] == [b.tobytes() for b in whole.images]


def test_everything_at_once_costs_what_its_parts_say(whole) -> None:
    assert [trace.evaluations for trace in whole.trace] == [3, 3]
    for trace in whole.trace:
        assert [descent.name for descent in trace.descents] == ["attend_and_excite", "layout"]
    assert [descent.gradients for descent in whole.trace[0].descents] == [3, 2]
    assert [descent.gradients for descent in whole.trace[1].descents] == [1, 2]


def test_an_image_of_everything_at_once_is_its_seeds_own(whole) -> None:
    alone = everything(seeds=[2])
    assert torch.allclose(alone.latents[0], whole.latents[2], atol=1e-2)
    assert differ(alone.latents[0], whole.latents[1])


def test_every_part_of_everything_takes_part(whole) -> None:
    for name in NAMES[1:]:  # fusing needs the first
        assert differ(everything([other for other in NAMES if other != name]).latents, whole.latents), name
    for part in CHAIN:
        rest = [other for other in CHAIN if other is not part]
        assert differ(everything(chain=rest).latents, whole.latents), part.name
