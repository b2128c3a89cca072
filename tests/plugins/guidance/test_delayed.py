"""delayed: off outside its interval, in every branch, wherever it stands in the chain."""

from __future__ import annotations

import itertools

import pytest
import torch

import weft
from weft.core.api.branches import Branch, LinearForm
from weft.core.api.guidance import Step
from weft.testing import Case, SecondPrompt, parametrize_with_checks, random_pipeline

SCENE = weft.Scene("a toy on grass")
FULL = Branch.full(["second_prompt", "grounding"])
OFF = FULL.switched_off("second_prompt")


def rewritten(chain, index: int, total: int = 10) -> LinearForm:
    form = LinearForm.of(FULL)
    for strategy in chain:
        form = strategy.rewrite(form, Step(index, total, 999.0, FULL))
    return form.support()


def draw(*chain, there: bool = True, steps: int = 4) -> weft.Result:
    return random_pipeline().generate(SCENE, [SecondPrompt()] if there else [], chain, steps=steps)


@parametrize_with_checks([weft.Delayed("second_prompt", (0.5, 1.0))], Case(conditioners=(SecondPrompt(),)))
def test_contract(plugin, check) -> None:
    check(plugin)


@pytest.mark.parametrize(
    ("interval", "there"),
    [((0.3, 1.0), range(3, 10)), ((0.0, 0.3), range(3)), ((0.2, 0.5), range(2, 5)), ((0.5, 0.5), range(0))],
)
def test_interval(interval, there) -> None:
    delayed = weft.Delayed("second_prompt", interval)
    for index in range(10):
        assert dict(rewritten([delayed], index)) == {FULL if index in there else OFF: 1.0}


def test_fastcomposer_and_gligen_at_fifty_steps() -> None:
    late, early = weft.Delayed("second_prompt", (0.3, 1.0)), weft.Delayed("second_prompt", (0.0, 0.3))
    assert [i for i in range(50) if OFF in rewritten([late], i, 50)] == list(range(15))
    assert [i for i in range(50) if FULL in rewritten([early], i, 50)] == list(range(15))


@pytest.mark.parametrize(
    ("fraction", "total"), [(0.25, 10), (0.35, 10), (0.3, 7), (0.7, 10), (0.29, 100), (0.999, 5), (0.05, 10)]
)
def test_a_fraction_that_is_no_whole_number_of_steps_is_rounded_down(fraction: float, total: int) -> None:
    early, late = (weft.Delayed("second_prompt", pair) for pair in ((0.0, fraction), (fraction, 1.0)))
    there = [i for i in range(total) if FULL in rewritten([early], i, total)]
    assert there == list(range(int(fraction * total)))  # diffusers' count of GLIGEN's grounded steps
    assert [i for i in range(total) if OFF in rewritten([late], i, total)] == there


def test_every_order_of_the_chain_gives_the_same_form() -> None:
    chain = [weft.Delayed("second_prompt"), weft.ClassifierFree(7.5), weft.Fusing(0.5, "grounding")]
    for index in (0, 9):
        forms = [dict(rewritten(order, index)) for order in itertools.permutations(chain)]
        assert all(form == forms[0] for form in forms)
        assert all(("second_prompt" in branch.off) == (index == 0) for branch in forms[0])


@pytest.mark.parametrize("first", [True, False])
def test_off_is_as_if_the_conditioner_were_not_there(first: bool) -> None:
    chain = [weft.Delayed("second_prompt", (1.0, 1.0)), weft.ClassifierFree(7.5)]
    without = draw(weft.ClassifierFree(7.5), there=False)
    assert torch.equal(draw(*(chain if first else chain[::-1])).latents, without.latents)


def test_it_makes_fusing_cheaper() -> None:
    chain = [
        weft.Fusing(0.5, "second_prompt"),
        weft.ClassifierFree(7.5),
        weft.Delayed("second_prompt", (0.5, 1.0)),
    ]
    assert [len(trace.form) for trace in draw(*chain).trace] == [2, 2, 3, 3]


def test_a_run_without_the_conditioner_and_a_reversed_interval_are_refused() -> None:
    with pytest.raises(weft.UserError, match=r"delayed, field 'conditioner'"):
        draw(weft.Delayed("grounding"))
    with pytest.raises(weft.UserError, match=r"interval.*start <= end"):
        weft.Delayed("grounding", (0.6, 0.2))
