"""classifier_free: its algebra, its arithmetic in float64, and the plugin contract."""

from __future__ import annotations

import pytest
import torch

import weft
from weft.core.api.branches import Branch, LinearForm
from weft.core.api.guidance import Step
from weft.core.api.predictions import Predictions
from weft.testing import parametrize_with_checks

FULL = Branch.full(["grounding"])


def step(index: int = 0, total: int = 10) -> Step:
    return Step(index, total, 999.0, FULL)


@parametrize_with_checks(
    [weft.ClassifierFree(7.5), weft.ClassifierFree(3.0, "a car", rescale=0.7, interval=(0.0, 0.5))]
)
def test_contract(plugin, check) -> None:
    check(plugin)


def test_form_is_the_papers() -> None:
    form = weft.ClassifierFree(7.5, negative_prompt="blurry").rewrite(LinearForm.of(FULL), step())
    assert dict(form) == {FULL: 7.5, Branch(prompt="blurry"): -6.5}
    assert form.total == pytest.approx(1.0)


def test_sum_equals_the_formula_in_float64() -> None:
    text, null = torch.randn(2, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    form = weft.ClassifierFree(7.5).rewrite(LinearForm.of(FULL), step())
    guided = Predictions({FULL: text, Branch(prompt=""): null}).sum(form)
    assert torch.allclose(guided, null + 7.5 * (text - null), rtol=0, atol=1e-13)


def test_rescale_restores_the_standard_deviation() -> None:
    text, null = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    strategy = weft.ClassifierFree(7.5, rescale=1.0)
    before = LinearForm.of(FULL)
    predictions = Predictions({FULL: text, Branch(prompt=""): null})
    guided = predictions.sum(strategy.rewrite(before, step()))
    (read,) = strategy.reads(before, step())
    rescaled = strategy.combine(guided, [predictions.sum(read)], step())
    assert torch.allclose(rescaled.std(dim=(1, 2, 3)), text.std(dim=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize(("index", "acts"), [(0, False), (2, True), (4, True), (5, False), (9, False)])
def test_interval(index: int, acts: bool) -> None:
    form = weft.ClassifierFree(7.5, interval=(0.2, 0.5)).rewrite(LinearForm.of(FULL), step(index))
    assert (len(form) == 2) is acts


def test_outside_the_interval_nothing_is_evaluated_twice() -> None:
    pipe = weft.testing.random_pipeline()
    result = pipe.generate(
        weft.Scene("a toy"), guidance=[weft.ClassifierFree(7.5, interval=(0.0, 0.5))], steps=4
    )
    assert [len(trace.form) for trace in result.trace] == [2, 2, 1, 1]


def test_a_reversed_interval_is_refused() -> None:
    with pytest.raises(weft.UserError, match=r"interval.*start <= end"):
        weft.ClassifierFree(interval=(0.6, 0.2))
