"""composable: AND and NOT in float64, a prompt for each subject in mixed batches, and what it costs."""

from __future__ import annotations

import pytest
import torch

import weft
from weft.core.api.branches import Branch, LinearForm, SubjectPhrase
from weft.core.api.guidance import Step
from weft.core.api.predictions import Predictions
from weft.testing import parametrize_with_checks, random_pipeline

FULL = Branch.full(["grounding"])
NULL = Branch(prompt="")
SCENE = weft.Scene("a toy and a car on grass", [weft.Subject("toy"), weft.Subject("car")])
OTHER = weft.Scene("a boat under a red star", [weft.Subject("boat"), weft.Subject("red star")])


def rewritten(strategy: weft.Guidance, form: LinearForm | None = None) -> LinearForm:
    return strategy.rewrite(form or LinearForm.of(FULL), Step(0, 10, 999.0, FULL)).support()


def draw(strategy: weft.Guidance, scene=SCENE) -> weft.Result:
    return random_pipeline().generate(scene, guidance=[strategy], steps=2)


@parametrize_with_checks(
    [
        weft.Composable(0.0, subjects=(4.0,)),
        weft.Composable(7.5, prompts={"fog": -2.0}, negative_prompt="a car"),
    ]
)
def test_contract(plugin, check) -> None:
    check(plugin)


def test_sum_equals_the_papers_in_float64() -> None:
    toy, fog, null = torch.randn(
        3, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    branches = {FULL.reading(SubjectPhrase(0)): toy, FULL.reading("fog"): fog, NULL: null}
    form = rewritten(weft.Composable(0.0, subjects=(7.5,), prompts={"fog": -2.0}))
    assert form.keys() == branches.keys()
    guided = Predictions(branches).sum(form)
    assert torch.allclose(guided, null + 7.5 * (toy - null) - 2.0 * (fog - null), rtol=0, atol=1e-13)


def test_the_scene_alone_is_classifier_free_guidance() -> None:
    assert dict(rewritten(weft.Composable(3.0))) == dict(rewritten(weft.ClassifierFree(3.0)))
    assert torch.equal(draw(weft.Composable(3.0)).latents, draw(weft.ClassifierFree(3.0)).latents)


def test_weights_that_sum_to_one_need_no_null() -> None:
    form = rewritten(weft.Composable(0.5, subjects=(0.2, 0.3)))
    assert list(form.values()) == [0.5, 0.2, 0.3]


def test_a_null_of_an_earlier_strategy_stays() -> None:
    form = rewritten(weft.ClassifierFree(2.0))
    assert rewritten(weft.Composable(0.0, prompts={"fog": 1.0}), form) == {
        FULL.reading("fog"): 2.0,
        NULL: -1.0,
    }


def test_fusing_mixes_each_prompt() -> None:
    form = rewritten(weft.Fusing(0.5, "grounding"), rewritten(weft.Composable(0.0, prompts={"fog": 3.0})))
    assert form == {FULL.reading("fog"): 1.5, Branch(prompt="fog"): 1.5, NULL: -2.0}


def test_each_scene_of_a_batch_reads_its_own_subjects() -> None:
    strategy = weft.Composable(0.0, subjects=(4.0, 3.0))
    together = draw(strategy, [SCENE, OTHER]).latents
    for latents, prompts in zip(together, [("toy", "car"), ("boat", "red star")], strict=True):
        literal = weft.Composable(0.0, prompts=dict(zip(prompts, (4.0, 3.0), strict=True)))
        assert torch.allclose(latents, draw(literal).latents[0], atol=1e-4)


@pytest.mark.parametrize(
    ("strategy", "count"),
    [
        (weft.Composable(), 2),
        (weft.Composable(0.0, subjects=(4.0, 3.0)), 3),
        (weft.Composable(5.0, subjects=(0.0, 3.0), prompts={"fog": -2.0}), 4),
        (weft.Composable(5.0, prompts={"": -2.0}), 2),
    ],
)
def test_evaluations_of_a_generation(strategy: weft.Guidance, count: int) -> None:
    assert [len(trace.form) for trace in draw(strategy).trace] == [count, count]


def test_as_many_weights_as_subjects() -> None:
    with pytest.raises(
        weft.UserError, match=r"composable, field 'subjects'.*2 weights.*a toy and a car.*found 1"
    ):
        draw(weft.Composable(subjects=(1.0,)))
