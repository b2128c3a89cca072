"""Regions: every port acts where it is told to, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import port_plugins as plugins
from PIL import Image
from torch import Tensor, nn

import weft
from weft.core.api.attention_maps import Look, Site
from weft.core.api.ports import BlockInsert, ContextTokens, Entry, TextRegion, WeightDelta
from weft.core.unet.attention import cross_attention
from weft.core.unet.conditions import RegionalText, gather
from weft.core.unet.weight_deltas import grid_of, with_groups
from weft.testing import random_pipeline, random_unet

SCENE = weft.Scene(
    "a toy and a dog on grass",
    [weft.Subject("toy", box=(0.0, 0.0, 0.5, 1.0)), weft.Subject("dog", box=(0.5, 0.0, 0.75, 1.0))],
)
SIZE = 32
LEFT = torch.zeros(SIZE, SIZE)
LEFT[:, : SIZE // 2] = 1
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def mask(array: Any) -> Image.Image:
    return Image.fromarray((np.asarray(array) * 255).astype(np.uint8), "L")


def latents(*conditioners: Any) -> Tensor:
    pipe = random_pipeline()
    return pipe.generate(SCENE, conditioners, [weft.ClassifierFree(3.0)], steps=3, seeds=(0, 1)).latents


def whole() -> Image.Image:
    return mask(np.ones(random_pipeline().size))


@pytest.mark.parametrize("plugin", plugins.ALL)
def test_a_mask_of_ones_is_no_mask_bit_for_bit_and_one_of_zeros_is_absence(plugin) -> None:
    plain = latents(plugin())
    assert torch.equal(latents(plugin(region=whole())), plain)
    nowhere = latents(plugin(region=mask(np.zeros(random_pipeline().size))))
    torch.testing.assert_close(nowhere, latents(), rtol=0, atol=1e-5)
    assert float((plain - nowhere).abs().max()) > 1e-3


@pytest.mark.parametrize("plugin", plugins.ALL)
def test_a_region_is_neither_everywhere_nor_nowhere(plugin) -> None:
    left = latents(plugin(region="toy"))
    assert float((left - latents()).abs().max()) > 1e-4
    assert float((left - latents(plugin())).abs().max()) > 1e-4
    assert torch.equal(left, latents(plugin(region=weft.Region(box=(0.0, 0.0, 0.5, 1.0)))))


@pytest.mark.parametrize("plugin", plugins.ALL)
def test_regions_that_share_the_image_are_the_conditioner_everywhere(plugin) -> None:
    """Two of one kind, in the left half and beside it."""
    together = latents(plugin(region="toy"), plugin(region=weft.Region(box=(0.5, 0.0, 1.0, 1.0))))
    expected = latents(plugin())
    if plugin in (
        plugins.Fuser,
        plugins.MapBlur,
    ):  # a module reads the whole image, and the second what the first made
        assert float((together - expected).abs().max()) > 0
    else:
        torch.testing.assert_close(together, expected, rtol=0, atol=2e-4)


def test_all_of_it_is_one_batch_of_the_unet() -> None:
    """Every port at once, each in another region and at other steps, with both branches of the guidance."""
    pipe, calls = random_pipeline(), []
    handle = pipe.unet.conv_in.register_forward_hook(lambda *call: calls.append(len(call[-1])))
    regions: list[Any] = ["toy", "dog", "rest", weft.Region(box=(0.2, 0.2, 0.9, 0.9))]
    schedules: list[Any] = [1.0, (0.0, 0.5), (0.3, 1.0), {0: 1.0, 1: 0.2}]
    conditioners = [
        plugin(region=regions[number % 4], schedule=schedules[(number + 1) % 4])
        for number, plugin in enumerate(plugins.ALL)
    ]
    try:
        pipe.generate(SCENE, conditioners, [weft.ClassifierFree(3.0)], steps=3, seeds=(0, 1))
    finally:
        handle.remove()
    assert calls == [4, 4, 4]


def test_the_rest_is_what_lies_in_no_subjects_box() -> None:
    model = random_pipeline().view((SIZE, SIZE))
    rest = model.area(weft.Region(rest=True), SCENE)
    assert torch.equal(rest[0], (torch.arange(SIZE) >= SIZE * 3 // 4).float())


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("cat", "expected a subject among"),
        ("toy", "a mask or a box"),
        ("rest", "beside which there is a rest"),
    ],
)
def test_a_region_that_the_scene_lacks_is_refused(region, message) -> None:
    scene = weft.Scene("a toy on grass", [weft.Subject("toy")])
    with pytest.raises(weft.UserError, match=message):
        random_pipeline().generate(scene, [plugins.Bumps(region=region)], steps=1)


def test_a_region_is_one_thing() -> None:
    for fields in ({}, {"rest": True, "box": (0, 0, 1, 1)}, {"subject": ""}):
        with pytest.raises(weft.UserError, match="Region"):
            weft.Region(**fields)


# ---- a layer alone: what it gives in the region is what it gives with the entry, and elsewhere without it


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer_output(entries: tuple[Entry, ...]) -> Tensor:
    """Of the first cross-attention, (positions, channels), with row 1 under the entries and row 0 without."""
    unet = random_unet().requires_grad_(False)
    conditions = gather([normal(7, 32), normal(7, 32)], [(), entries])
    layer = conditions.over(unet).get_submodule(f"{BLOCK}.attn2")
    hidden = normal(1, 64, layer.to_q.in_features, seed=3).repeat(2, 1, 1)
    out, _ = cross_attention(layer, hidden, Site(BLOCK, (8, 8)), conditions, Look())
    torch.testing.assert_close(out[0], layer_of(unet, hidden))
    return out[1]


def layer_of(unet: nn.Module, hidden: Tensor) -> Tensor:
    layer = unet.get_submodule(f"{BLOCK}.attn2")
    return cross_attention(layer, hidden[:1], Site(BLOCK, (8, 8)), gather([normal(7, 32)], [()]), Look())[0][
        0
    ]


def lora(name: str) -> tuple[Tensor, Tensor]:
    weight = random_unet().get_submodule(f"{BLOCK}.attn2.{name}").weight
    return normal(weight.shape[0], 2, seed=5), normal(2, weight.shape[1], seed=6)


def cases(region: Tensor | None) -> dict[str, tuple[Entry, ...]]:
    where: dict[str, Any] = {"region": region, "origin": "one"}
    text = RegionalText(normal(7, 32, seed=9), **where)
    deltas = {
        name: WeightDelta(f"{BLOCK}.attn2.{name}", *lora(name), **where)
        for name in ("to_q", "to_k", "to_v", "to_out.0")
        if name != "to_out.0"
    }
    full = WeightDelta(
        f"{BLOCK}.attn2.to_q", normal(*(deltas["to_q"].up @ deltas["to_q"].down).shape), **where
    )
    same = RegionalText(normal(7, 32), **where)
    regional = () if region is None else (same,)
    return {
        "query": (deltas["to_q"],),
        "whole query": (full,),
        "key": (deltas["to_k"], *regional),
        "value": (deltas["to_v"], *regional),
        "key and value": (deltas["to_k"], deltas["to_v"], *regional),
        "tokens": (ContextTokens(normal(3, 32, seed=7), **where),),
        "words": (TextRegion(torch.tensor([2, 3]), torch.zeros(SIZE, SIZE), **where),),
        "text": (text,) if region is not None else (),
    }


@pytest.mark.parametrize("name", cases(None))
def test_a_layer_acts_in_the_region_as_with_the_entry_and_elsewhere_as_without(name) -> None:
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[:, :4] = True
    got = layer_output(cases(LEFT)[name])
    everywhere = layer_output(cases(None)[name])
    if name == "text":
        everywhere = layer_output(cases(torch.ones(SIZE, SIZE))[name])
    nowhere = layer_output(())
    torch.testing.assert_close(got, torch.where(inside.flatten()[:, None], everywhere, nowhere))
    assert float((everywhere - nowhere).abs().max()) > 1e-2


def test_of_two_adapters_each_acts_in_its_own_region_in_one_operation() -> None:
    layer = nn.Linear(12, 8)
    other = 1 - LEFT
    one = WeightDelta("layer", normal(8, 2), normal(2, 12), region=LEFT, origin="one")
    two = WeightDelta("layer", normal(8, 3, seed=2), normal(3, 12, seed=3), region=other, strength=0.5)
    model = with_groups(nn.ModuleDict({"layer": layer}), gather([normal(7, 12)], [(one, two)]).deltas)
    x = normal(1, 16, 12, seed=4)  # 4 x 4 positions
    left = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(4, 4).flatten()[:, None]
    expected = layer(x) + left * (x @ one.down.T @ one.up.T) + (1 - left) * 0.5 * (x @ two.down.T @ two.up.T)
    torch.testing.assert_close(model.get_submodule("layer")(x), expected)


def test_a_layer_without_a_place_in_the_image_takes_the_regions_share() -> None:
    layer = nn.Linear(12, 8)
    delta = WeightDelta("layer", normal(8, 2), normal(2, 12), region=LEFT * 0.5)
    model = with_groups(nn.ModuleDict({"layer": layer}), gather([normal(7, 12)], [(delta,)]).deltas)
    x = normal(1, 12)
    expected = layer(x) + 0.25 * (x @ delta.down.T @ delta.up.T)
    torch.testing.assert_close(model.get_submodule("layer")(x), expected)


def test_positions_tell_a_feature_maps_size() -> None:
    assert [grid_of(n, (64, 96)) for n in (6144, 1536, 24, 6, 1, 77)] == [
        (64, 96), (32, 48), (4, 6), (2, 3), None, None,
    ]  # fmt: skip
    assert grid_of(12, (25, 20)) == (4, 3)


def test_an_insert_changes_nothing_outside_its_region() -> None:
    unet = random_unet().requires_grad_(False)
    path, module = next(iter(plugins.fusers(unet, 32).items()))
    insert = BlockInsert({path: module}, normal(5, 32), region=LEFT)
    conditions = gather([normal(7, 32)], [(insert,)])
    hidden = normal(1, 64, unet.get_submodule(path).norm1.normalized_shape[0])
    group = conditions.inserts[0]
    assert group.mask_at((8, 8), hidden).flatten(1).sum() == 32
