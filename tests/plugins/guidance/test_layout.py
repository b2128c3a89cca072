"""layout: its energy, where it moves attention, what it refuses, and the plugin contract."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import weft
from weft.core.api.attention_maps import AttentionMaps, Site
from weft.core.api.branches import Branch
from weft.core.api.guidance import Step
from weft.testing import parametrize_with_checks, random_pipeline

LEFT = (0.0, 0.0, 0.5, 1.0)
SCENE = weft.Scene("a toy and a red star on grass", [weft.Subject("toy", box=LEFT), weft.Subject("red star")])
FIRST = Step(0, 10, 999.0, Branch())


@parametrize_with_checks(
    [weft.Layout(scale=300.0), weft.Layout(100.0, ("toy",), steps=2, threshold=0.0, updates=1)]
)
def test_contract(plugin, check) -> None:
    check(plugin)


def test_energy_is_the_formula() -> None:
    """A layer of two heads whose share inside the left half is known."""
    attention = torch.full((1, 2, 16, 77), 0.01, dtype=torch.float64)
    columns = torch.arange(16) % 4
    attention[0, 0, columns < 2, 2] = 0.03  # the toy's token: three quarters inside
    attention[0, 1, columns >= 2, 2] = 0.0  # all inside
    region = torch.zeros(32, 32)
    region[:, :16] = 1.0
    given = AttentionMaps(
        {Site("block", (4, 4)): attention},
        [random_pipeline().text.tokens(SCENE.prompt)],
        [SCENE],
        [lambda number: region],
    )
    loss = weft.Layout(threshold=0.0).loss(given, FIRST)
    assert float(loss) == pytest.approx((0.25**2 + 0.0) / 2)
    assert float(weft.Layout(threshold=0.2).loss(given, FIRST)) == 0.0


def share_inside(guidance: list[weft.Guidance], scene: weft.Scene) -> torch.Tensor:
    result = random_pipeline().generate(scene, guidance=guidance, steps=2, seeds=[0, 1])
    maps = [result.attention("toy", image) for image in range(2)]
    return torch.stack([attention[:, :4].sum() / attention.sum() for attention in maps])


def test_attention_moves_into_the_box_or_the_mask() -> None:
    bright = Image.new("L", (32, 32))
    bright.paste(255, (0, 0, 16, 32))
    masked = weft.Scene(SCENE.prompt, [weft.Subject("toy", mask=bright)])
    strategy = weft.Layout(scale=3000.0, threshold=0.0)
    without = share_inside([], SCENE)
    boxed = share_inside([strategy], SCENE)
    assert (boxed > without + 1e-3).all()
    assert torch.equal(boxed, share_inside([strategy], masked))


def test_a_sample_of_a_batch_equals_its_single_run() -> None:
    strategy = weft.Layout(scale=300.0, threshold=0.22)
    options = {
        "guidance": [strategy, weft.AttendAndExcite(200.0, thresholds={})],
        "steps": 3,
        "height": 48,
        "width": 32,
    }
    together = random_pipeline().generate(SCENE, seeds=[0, 1, 2], **options).latents
    for seed in range(3):
        alone = random_pipeline().generate(SCENE, seeds=[seed], **options).latents[0]
        assert torch.allclose(alone, together[seed], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("place", [{"box": (0.001, 0.1, 0.002, 0.9)}, {"mask": Image.new("L", (32, 32))}])
def test_a_place_that_covers_no_pixel_is_refused(place) -> None:
    scene = weft.Scene(SCENE.prompt, [weft.Subject("toy", **place)])
    with pytest.raises(weft.UserError, match=r"subject 'toy', field '(box|mask)'.*pixel of 32 x 32"):
        random_pipeline().generate(scene, guidance=["layout"], steps=1)


def test_a_scene_without_places_is_refused() -> None:
    bare = weft.Scene(SCENE.prompt, [weft.Subject("toy")])
    with pytest.raises(
        weft.UserError, match=r"layout, scene 'a toy.*a box or a mask of a subject, found none"
    ):
        random_pipeline().generate(bare, guidance=["layout"], steps=1)
    with pytest.raises(weft.UserError, match=r"box or a mask of 'red star'"):
        random_pipeline().generate(SCENE, guidance=[weft.Layout(phrases=("red star",))], steps=1)
    with pytest.raises(weft.UserError, match="'grass'"):
        random_pipeline().generate(SCENE, guidance=[weft.Layout(phrases=("grass",))], steps=1)
