"""A conditioner's schedule: the rule of its steps, and what it leaves as it is."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import pytest
import torch
from helpers import port_plugins as plugins

import weft
from weft.core.api.schedule import factor_at
from weft.plugin import Branch, Guidance, LinearForm, Step, record
from weft.testing import random_pipeline

SCENE = weft.Scene("a toy and a dog on grass", [weft.Subject("toy", box=(0.0, 0.0, 0.5, 1.0))])
STEPS = 4


def latents(conditioners: Any, *guidance: Any, **options: Any) -> torch.Tensor:
    chain = [*guidance, weft.ClassifierFree(3.0)]
    result = random_pipeline().generate(
        SCENE, conditioners, chain, **{"steps": STEPS, "seeds": (0, 1), **options}
    )
    return result.latents


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (0.5, [0.5, 0.5, 0.5, 0.5]),
        ((0.0, 0.5), [1, 1, 0, 0]),
        ((0.3, 1.0), [0, 0, 1, 1]),
        ((0.5, 0.5), [0, 0, 0, 0]),
        ({0.0: 1.0, 0.5: 0.0}, [1, 0.5, 0, 0]),
        ({0.25: -1.0, 0.75: 3.0}, [-1, -1, 1, 3]),
        ({0.5: 2.0}, [2, 2, 2, 2]),
    ],
)
def test_the_factor_at_each_step(schedule, expected) -> None:
    assert [factor_at(schedule, index, STEPS) for index in range(STEPS)] == expected
    conditioner = plugins.Bumps(schedule=schedule)
    steps = [Step(index, STEPS, 0.0, Branch()) for index in range(STEPS)]
    assert [conditioner.factor(step) for step in steps] == expected


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ((0.5, 0.2), "an interval"),
        ((0.0, 1.5), "an interval"),
        ({}, "points"),
        ({1.5: 1.0}, "points"),
        ("late", "a number"),
    ],
)
def test_a_wrong_schedule_names_the_field(schedule, message) -> None:
    with pytest.raises(weft.UserError, match=rf"'schedule.*{message}"):
        plugins.Bumps(schedule=schedule)


@pytest.mark.parametrize("plugin", plugins.ALL)
def test_an_interval_is_the_conditioner_switched_off_outside_it_bit_for_bit(plugin) -> None:
    within = latents([plugin(schedule=(0.0, 0.5))])
    assert torch.equal(within, latents([plugin()], weft.Delayed(plugin.name, (0.0, 0.5))))
    assert not torch.equal(within, latents([plugin()]))
    assert not torch.equal(within, latents([]))


@pytest.mark.parametrize("plugin", plugins.ALL)
def test_a_constant_is_a_strength_and_0_is_absence_bit_for_bit(plugin) -> None:
    assert torch.equal(latents([plugin(schedule=0.4)]), latents([plugin(strength=0.4)]))
    assert torch.equal(latents([plugin(schedule={0: 1, 1: 1})]), latents([plugin()]))
    assert torch.equal(latents([plugin(schedule=0.0)]), latents([]))


def test_two_of_one_kind_have_each_its_own_schedule() -> None:
    both = latents([plugins.Bumps(schedule=(0.0, 0.5)), plugins.Bumps(schedule=(0.5, 1.0))])
    assert torch.equal(both, latents([plugins.Bumps()]))


def test_points_encode_the_text_once_and_make_the_keys_and_values_once() -> None:
    pipe = random_pipeline()
    calls: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda *_: calls.update([name])

    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    pipe.unet.get_submodule(f"{path}.to_k").register_forward_hook(count("keys"))
    pipe.text.model.register_forward_hook(count("text"))
    ramp = {0: 0.1, 1: 0.9}
    conditioners = [
        plugins.Fuser(schedule=ramp),
        plugins.Bumps(schedule=ramp),
        plugins.BoxedWords(schedule=ramp),
        plugins.SubjectChannel(schedule=ramp),
        plugins.MapBlur(schedule=ramp),
    ]
    pipe.generate(SCENE, conditioners, [weft.ClassifierFree(3.0)], steps=STEPS)
    assert calls == {"text": 2, "keys": 1}


def test_a_scaled_branch_scales_the_null_form_too() -> None:
    @record
    class Halved(Guidance):
        name: ClassVar[str] = "halved"

        def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
            return form.map(lambda branch: branch.scaled("fuser", 0.5))

    assert torch.equal(latents([plugins.Fuser()], Halved()), latents([plugins.Fuser(strength=0.5)]))
