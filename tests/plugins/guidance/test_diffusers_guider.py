"""diffusers_guider: equal to the guider called directly, with a momentum that never leaves its batch."""

from __future__ import annotations

import pytest
import torch
from diffusers import guiders

import weft
from weft.core.api.branches import Branch, LinearForm
from weft.core.api.guidance import Batch, Step
from weft.testing import SecondPrompt, parametrize_with_checks, random_pipeline

SCENE = weft.Scene("a toy on grass")
FULL = Branch.full([])
MOMENTUM = {"guidance_scale": 5.0, "adaptive_projected_guidance_momentum": -0.5, "eta": 0.3}
CASES = [
    ("AdaptiveProjectedGuidance", MOMENTUM),
    ("AdaptiveProjectedMixGuidance", {}),
    ("ClassifierFreeGuidance", {"guidance_scale": 4.0, "guidance_rescale": 0.5, "stop": 0.5}),
    ("ClassifierFreeZeroStarGuidance", {"guidance_scale": 4.0}),
    ("TangentialClassifierFreeGuidance", {"start": 0.5}),
]


def draw(*chain: weft.Guidance | str, **options) -> weft.Result:
    return random_pipeline().generate(SCENE, guidance=chain, **{"steps": 3, **options})


@parametrize_with_checks(
    [
        weft.DiffusersGuider(options=MOMENTUM),
        weft.DiffusersGuider("ClassifierFreeZeroStarGuidance", {"zero_init_steps": 0}),
    ]
)
def test_contract(plugin, check) -> None:
    check(plugin)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_step_equals_the_guider_called_directly(name: str, options: dict) -> None:
    pipe, generator = random_pipeline(), torch.Generator().manual_seed(0)
    batch = Batch([SCENE] * 3, pipe.view((32, 32)), pipe.scheduler, [generator] * 3)
    strategy, direct = weft.DiffusersGuider(name, options).begin(batch), getattr(guiders, name)(**options)
    for index in range(4):
        cond, uncond = torch.randn(2, 3, 4, 8, 8, generator=generator)
        step = Step(index, 4, 999.0 - index, FULL)
        direct.set_state(index, 4, step.timestep)
        batches = direct.prepare_inputs({"noise_pred": (cond, uncond)})
        read = strategy.reads(LinearForm.of(FULL), step)
        assert list(read) == [LinearForm.of(Branch(prompt=""))] * (direct.num_conditions - 1)
        assert torch.equal(strategy.combine(cond, [uncond] * len(read), step), direct(batches).pred)


def test_classifier_free_is_ours() -> None:
    theirs = draw(weft.DiffusersGuider("ClassifierFreeGuidance", {"guidance_scale": 4.0}, "a car"))
    assert torch.equal(theirs.latents, draw(weft.ClassifierFree(4.0, "a car")).latents)
    assert [dict(trace.form) for trace in theirs.trace] == [{FULL: 1.0, Branch(prompt="a car"): 0.0}] * 3


def test_a_momentum_stays_in_its_generation_and_its_sample() -> None:
    own = guiders.AdaptiveProjectedGuidance(**MOMENTUM)
    strategy = weft.DiffusersGuider(own)
    first = draw(strategy, seeds=[0, 1, 2])
    assert torch.equal(first.latents, draw(strategy, seeds=[0, 1, 2]).latents)
    assert torch.allclose(first.latents, draw(strategy, seeds=[0, 1, 2], batch_size=2).latents, atol=1e-4)
    assert own.momentum_buffer is None
    assert not torch.allclose(
        first.latents,
        draw(
            weft.DiffusersGuider(own, {"adaptive_projected_guidance_momentum": None}), seeds=[0, 1, 2]
        ).latents,
    )


def test_outside_the_guiders_steps_the_null_costs_nothing() -> None:
    result = draw(weft.DiffusersGuider("ClassifierFreeGuidance", {"start": 0.5}), steps=4)
    assert [len(trace.form) for trace in result.trace] == [1, 1, 2, 2]


def test_it_ends_a_chain() -> None:
    chain = [
        weft.Fusing(0.5, "second_prompt"),
        weft.Delayed("second_prompt", (0.5, 1.0)),
        weft.DiffusersGuider(options=MOMENTUM),
    ]
    result = random_pipeline().generate(SCENE, [SecondPrompt()], chain, steps=4)
    assert [len(trace.form) for trace in result.trace] == [2, 2, 3, 3]
    swapped = random_pipeline().generate(SCENE, [SecondPrompt()], [chain[0], chain[2], chain[1]], steps=4)
    assert torch.allclose(result.latents, swapped.latents, atol=1e-5)


@pytest.mark.parametrize(
    ("guider", "options", "words"),
    [
        ("AdaptiveProjectedGuidanc", {}, "Did you mean 'AdaptiveProjectedGuidance'"),
        ("ClassifierFreeGuidance", {"scale": 3.0}, r"field 'options'.*'scale'"),
        ("ClassifierFreeGuidance", {"start": 2.0}, r"field 'options'.*between 0.0 and 1.0"),
        (7.5, {}, r"field 'guider'.*found 7\.5"),
    ],
)
def test_what_is_no_guider_is_refused(guider, options, words) -> None:
    with pytest.raises(weft.UserError, match=words):
        draw(weft.DiffusersGuider(guider, options))


def test_a_guider_that_changes_the_model_is_refused() -> None:
    with pytest.raises(weft.UserError, match=r"leaves the model alone, found AutoGuidance"):
        draw(weft.DiffusersGuider(guiders.AutoGuidance(auto_guidance_layers=1, dropout=0.1)))
