"""instruct: the nested sum of InstructPix2Pix in float64, and what it costs."""

from __future__ import annotations

import pytest
import torch

import weft
from weft.core.api.branches import Branch, LinearForm
from weft.core.api.guidance import Step
from weft.core.api.predictions import Predictions
from weft.testing import Case, SecondPrompt, parametrize_with_checks, random_pipeline

SCENE = weft.Scene("a toy on grass")
FULL = Branch.full(["source", "grounding"])
IMAGE = Branch((("source", 1.0),), prompt="")
NULL = Branch(prompt="")


def rewritten(strategy: weft.Guidance) -> LinearForm:
    return strategy.rewrite(LinearForm.of(FULL), Step(0, 10, 999.0, FULL)).support()


@parametrize_with_checks(
    [weft.Instruct(), weft.Instruct(5.0, 2.0, "second_prompt", "a car")], Case(conditioners=(SecondPrompt(),))
)
def test_contract(plugin, check) -> None:
    check(plugin)


def test_sum_equals_equation_3_in_float64() -> None:
    both, image, null = torch.randn(
        3, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    form = rewritten(weft.Instruct(7.5, 1.5, "source"))
    assert form.keys() == {FULL, IMAGE, NULL}
    guided = Predictions({FULL: both, IMAGE: image, NULL: null}).sum(form)
    assert torch.allclose(guided, null + 1.5 * (image - null) + 7.5 * (both - image), rtol=0, atol=1e-13)


def test_without_a_name_every_conditioner_is_the_images() -> None:
    form = rewritten(weft.Instruct(7.5, 1.5, negative_prompt="blurry"))
    assert dict(form) == {FULL: 7.5, FULL.reading("blurry"): -6.0, Branch(prompt="blurry"): -0.5}


@pytest.mark.parametrize(
    ("text", "image", "count"), [(7.5, 1.5, 3), (7.5, 1.0, 2), (3.0, 3.0, 2), (1.0, 1.0, 1)]
)
def test_evaluations_of_a_generation(text: float, image: float, count: int) -> None:
    result = random_pipeline().generate(SCENE, [SecondPrompt()], [weft.Instruct(text, image)], steps=2)
    assert [len(trace.form) for trace in result.trace] == [count, count]


def test_it_follows_fusing() -> None:
    form = weft.Fusing(0.5, "source").rewrite(LinearForm.of(FULL), Step(0, 10, 999.0, FULL))
    form = weft.Instruct(7.5, 1.5, "source").rewrite(form, Step(0, 10, 999.0, FULL))
    # the image branch without the source is the null
    assert dict(form) == {FULL: 3.75, FULL.without("source"): 3.75, IMAGE: -3.0, NULL: -3.5}


def test_a_run_without_an_image_is_refused() -> None:
    with pytest.raises(
        weft.UserError, match=r"'instruct'.*a conditioner of the image in the run, found none"
    ):
        random_pipeline().generate(SCENE, [], ["instruct"])
    with pytest.raises(weft.UserError, match=r"instruct, field 'conditioner'.*'source'"):
        random_pipeline().generate(SCENE, [SecondPrompt()], [weft.Instruct(conditioner="source")])
