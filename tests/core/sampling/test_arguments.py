"""What `generate` is called with: taken as it is meant, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import weft
from weft.core.sampling.arguments import scenes_of, seeds_of, share, whole
from weft.testing import random_pipeline


def test_prompts_are_scenes() -> None:
    scene = weft.Scene("a toy")
    assert scenes_of("a toy") == scenes_of(scene) == scenes_of(["a toy"]) == [scene]
    assert scenes_of(one for one in ("a toy", scene)) == [scene, scene]


@pytest.mark.parametrize("wrong", [None, 3, [], [3], b"a toy"])
def test_what_is_no_scene(wrong) -> None:
    with pytest.raises(weft.UserError, match=r"^scene: expected"):
        scenes_of(wrong)


@pytest.mark.parametrize(
    "seeds",
    [
        range(4),
        np.arange(4),
        torch.arange(4),
        (i for i in range(4)),
        [0.0, 1.0, 2.0, 3.0],
        {0: 1, 1: 1, 2: 1, 3: 1},
    ],
)
def test_seeds_of_every_kind(seeds) -> None:
    assert seeds_of(seeds) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (5, r"a list of seeds, found 5\. Write \[5\] for one seed, range\(5\) for many"),
        ([1.5], "a whole number, found 1.5"),
        ([True], "a whole number, found True"),
        (["1"], "a whole number, found '1'"),
        ([-1], "at least 0, found -1"),
        ([2**64], r"less than 2\*\*63"),
        ([float("nan")], "a whole number, found nan"),
        ([], "at least one, found none"),
        ("12", "a list of seeds"),
        (np.array(3), "a list of seeds"),
        (None, "a list of seeds, found None"),
    ],
)
def test_what_are_no_seeds(seeds, words: str) -> None:
    with pytest.raises(weft.UserError, match=words):
        seeds_of(seeds)


def test_a_generator_of_seeds_serves_every_scene() -> None:
    drawn = random_pipeline().generate(["a toy", "a boat"], seeds=(seed for seed in (1, 2)), steps=1)
    assert [(one.scene.prompt, one.seed) for one in drawn.samples] == [
        ("a toy", 1),
        ("a toy", 2),
        ("a boat", 1),
        ("a boat", 2),
    ]


def test_numbers_of_every_type() -> None:
    assert [whole("x", value, 1) for value in (2, 2.0, np.int64(2), np.float32(2), torch.tensor(2))] == [
        2
    ] * 5
    assert share("x", np.float32(0.5)) == 0.5
    for wrong in (2.5, "2", None, True, [2]):
        with pytest.raises(weft.UserError, match="x: expected a whole number"):
            whole("x", wrong, 1)
    for wrong in (0, 1.5, "half", float("nan")):
        with pytest.raises(weft.UserError, match="x: expected a share of the steps"):
            share("x", wrong)


def test_one_plugin_needs_no_list_and_a_side_of_zero_is_none() -> None:
    pipe = random_pipeline()
    alone = pipe.generate("a toy", guidance=weft.ClassifierFree(3.0), steps=1)
    assert torch.equal(
        alone.latents, pipe.generate("a toy", guidance=[weft.ClassifierFree(3.0)], steps=1).latents
    )
    with pytest.raises(weft.UserError, match="field 'width': expected at least 1, found 0"):
        pipe.generate("a toy", width=0)
