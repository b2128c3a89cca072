"""fusing: the paper's three branches, their cost, and their arithmetic in float64."""

from __future__ import annotations

import pytest
import torch

import weft
from weft.core.api.branches import Branch, LinearForm
from weft.core.api.guidance import Step
from weft.core.api.predictions import Predictions
from weft.testing import Case, SecondPrompt, parametrize_with_checks, random_pipeline

SCENE = weft.Scene("a toy on grass")
FULL = Branch.full(["pseudo_word", "grounding"])
PLAIN = FULL.without("pseudo_word")
NULL = Branch(prompt="")
STEP = Step(0, 10, 999.0, FULL)


def chained(*chain: weft.Guidance) -> LinearForm:
    form = LinearForm.of(FULL)
    for strategy in chain:
        form = strategy.rewrite(form, STEP)
    return form.support()


@parametrize_with_checks([weft.Fusing(0.3, "second_prompt")], Case(conditioners=(SecondPrompt(),)))
def test_contract(plugin, check) -> None:
    check(plugin)


@pytest.mark.parametrize(
    "chain", [(weft.Fusing(0.3), weft.ClassifierFree(7.5)), (weft.ClassifierFree(7.5), weft.Fusing(0.3))]
)
def test_either_order_with_classifier_free_is_the_papers_sum_in_float64(chain) -> None:
    mixed, text, null = torch.randn(
        3, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    form = chained(*chain)
    assert form.keys() == {FULL, PLAIN, NULL}
    guided = Predictions({FULL: mixed, PLAIN: text, NULL: null}).sum(form)
    fused = 0.3 * mixed + 0.7 * text
    assert torch.allclose(guided, null + 7.5 * (fused - null), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("alpha", "branch"), [(1.0, FULL), (0.0, PLAIN)])
def test_the_ends_cost_no_further_evaluation(alpha: float, branch: Branch) -> None:
    assert dict(chained(weft.Fusing(alpha))) == {branch: 1.0}


def test_several_conditioners_go_together() -> None:
    form = chained(weft.Fusing(0.5, ("pseudo_word", "grounding")))
    assert dict(form) == {FULL: 0.5, Branch(): 0.5}


@pytest.mark.parametrize(("alpha", "count"), [(0.0, 2), (0.5, 3), (1.0, 2)])
def test_evaluations_of_a_generation(alpha: float, count: int) -> None:
    chain = [weft.Fusing(alpha, "second_prompt"), weft.ClassifierFree(7.5)]
    result = random_pipeline().generate(SCENE, [SecondPrompt()], chain, steps=2)
    assert [len(trace.form) for trace in result.trace] == [count, count]


def test_rescale_works_when_a_later_strategy_takes_its_branch_away() -> None:
    chain = [weft.ClassifierFree(7.5, rescale=0.5), weft.Fusing(0.0, "second_prompt")]
    result = random_pipeline().generate(SCENE, [SecondPrompt()], chain, steps=2)
    # with the second prompt empty, present and absent are the same
    same = random_pipeline().generate(SCENE, [SecondPrompt(prompt="")], chain[:1], steps=2)
    assert torch.allclose(result.latents, same.latents, atol=1e-4)


def test_rescale_of_scale_zero_reads_a_branch_that_the_sum_does_not() -> None:
    result = random_pipeline().generate(SCENE, [], [weft.ClassifierFree(0.0, rescale=0.5)], steps=1)
    assert sorted(result.trace[0].form.values()) == [0.0, 1.0]


def test_a_run_without_the_conditioner_is_refused() -> None:
    with pytest.raises(
        weft.UserError,
        match=r"fusing, field 'conditioner'.*\(second_prompt\), found 'second_promt'.*'second_prompt'",
    ):
        random_pipeline().generate(SCENE, [SecondPrompt()], [weft.Fusing(0.5, "second_promt")])
    with pytest.raises(weft.UserError, match=r"it has none\), found 'pseudo_word'"):
        random_pipeline().generate(SCENE, [], ["fusing"])


def test_a_conditioner_of_strength_zero_is_no_mistake() -> None:
    zero = random_pipeline().generate(
        SCENE, [SecondPrompt(strength=0.0)], [weft.Fusing(0.5, "second_prompt")], steps=1
    )
    assert len(zero.trace[0].form) == 1


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(weft.UserError, match="alpha"):
        weft.Fusing(alpha)
