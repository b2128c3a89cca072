"""Weight deltas as they are installed: which are one operation, and the bits of their sum."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.operations import Operations
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

import weft
from weft.core.api.ports import BlockInsert, WeightDelta
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.core.unet.weight_deltas import apply_deltas, with_groups
from weft.testing import random_unet


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(path: str, out: int, inner: int, rank: int, strength: float = 1.0, seed: int = 0) -> WeightDelta:
    return WeightDelta(
        path, normal(out, rank, seed=seed), normal(rank, inner, seed=seed + 1), strength=strength
    )


def test_low_rank_deltas_of_a_linear_layer_are_one_operation_on_a_gpu() -> None:
    """Of any rows, ranks and strengths; a full delta stays the operations that it was."""
    first, second = low_rank("layer", 8, 12, 2, 0.5), low_rank("layer", 8, 12, 5)
    full = WeightDelta("layer", normal(8, 12))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():

        def on_gpu(delta: WeightDelta) -> WeightDelta:
            down = None if delta.down is None else mode.from_tensor(delta.down).cuda()
            return WeightDelta(delta.path, mode.from_tensor(delta.up).cuda(), down, strength=delta.strength)

        one, other, whole = map(on_gpu, (first, second, full))
        layer = nn.Linear(12, 8, bias=False, device="cuda")
        model = nn.ModuleDict({"layer": layer})
        contexts = [torch.empty(7, 12, device="cuda")] * 3
        x = torch.empty(3, 5, 12, device="cuda")
        for rows, expected in (
            ([(one,), (one, other), (one,)], ["mm", "low_rank"]),
            ([(), (whole, one), ()], ["mm", "index", "mm", "mul", "index_add", "low_rank"]),
        ):
            changed = with_groups(model, gather(contexts, rows).deltas).get_submodule("layer")
            with Operations() as operations:
                assert changed(x).shape == (3, 5, 8)
            assert operations.names == expected


def test_the_sum_is_that_of_one_delta_after_the_other_bit_for_bit() -> None:
    """Low-rank and full ones, of some rows and of all, in the order that they came in, and gradients likewise."""
    layer = nn.Linear(12, 8)
    first, second = low_rank("layer", 8, 12, 2, 0.5), low_rank("layer", 8, 12, 5, 0.7, seed=2)
    full = WeightDelta("layer", normal(8, 12, seed=4), strength=0.3)
    groups = gather([normal(7, 12)] * 3, [(first, full, second), (), (first, full, second)]).deltas
    model = nn.ModuleDict({"layer": layer})
    for shape in ((3, 5, 12), (3, 12), (3, 2, 3, 12)):
        x = normal(*shape).requires_grad_(True)
        expected = layer(x)
        rows = torch.tensor([0, 2])
        for delta in (first, full, second):
            narrow = F.linear(x[rows], delta.up if delta.down is None else delta.down)
            narrow = torch.full((2, *[1] * (x.ndim - 1)), delta.strength) * narrow
            part = narrow if delta.down is None else F.linear(narrow, delta.up)
            expected = expected.index_add(0, rows, part)
        changed = with_groups(model, groups).get_submodule("layer")(x)
        assert torch.equal(changed, expected)
        slopes = [torch.autograd.grad(one.square().sum(), x)[0] for one in (changed, expected)]
        torch.testing.assert_close(*slopes)
        assert x.ndim != 3 or torch.equal(*slopes)
        assert torch.equal(layer(x)[1], expected[1])


def test_a_strength_of_0_is_no_delta_bit_for_bit() -> None:
    """Also where what it would add has overflowed."""
    layer = nn.Linear(12, 8)
    x = torch.full((2, 5, 12), 1e38)
    huge = WeightDelta("layer", torch.ones(8, 2), torch.full((2, 12), 1e10), strength=0.0)
    plain = layer(x)
    changed = apply_deltas(nn.ModuleDict({"layer": layer}), [huge]).get_submodule("layer")
    assert torch.equal(changed(x), plain)
    assert torch.equal(layer(x), plain)


@torch.no_grad()
def test_a_module_that_calls_a_changed_layer_gets_the_models_own() -> None:
    """Re-entry: an insert calls a layer that deltas change for other rows, and sees it without them."""
    unet = random_unet()
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    path = f"{block}.attn2.to_q"
    layer, seen = unet.get_submodule(path), []

    def insert(hidden: Tensor, state: Tensor, strength: Tensor, grid: tuple[int, int]) -> Tensor:
        again = layer(hidden)
        seen.append(torch.equal(again, F.linear(hidden, layer.weight, layer.bias)))
        return hidden + again

    delta = low_rank(path, 32, 32, 2)
    rows = [(delta,), (BlockInsert({block: insert}, torch.zeros(1)),)]
    latents, context = normal(1, 4, 8, 8), normal(7, 32)
    both = UNetForward(unet)(latents, torch.tensor(500), gather([context] * 2, rows))
    assert seen == [True]
    alone = [UNetForward(unet)(latents, torch.tensor(500), gather([context], [row])) for row in rows]
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-5)
    assert not layer._forward_hooks


INPUTS = {
    "linear": (3, 5, 12),
    "convolution": (3, 3, 6, 6),
    "layer_norm": (3, 5, 12),
    "group_norm": (3, 6, 4, 4),
}


@torch.no_grad()
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_deltas_of_weights_biases_and_norms_equal_changed_parameters(name, strength) -> None:
    """Of some rows and of all, in float64; the other rows are as they were, bit for bit."""
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(12, 8, bias=False),
            "convolution": nn.Conv2d(3, 8, 3, stride=2),
            "layer_norm": nn.LayerNorm(12),
            "group_norm": nn.GroupNorm(2, 6),
        }
    ).double()
    layer, x = model[name], normal(*INPUTS[name]).double()
    weight, bias = normal(*layer.weight.shape, seed=1).double(), normal(len(layer.weight), seed=2).double()
    entries = (
        WeightDelta(name, weight, strength=strength),
        WeightDelta(name, bias, parameter="bias", strength=strength),
    )
    changed = copy.deepcopy(layer)
    changed.weight += strength * weight
    changed.bias = nn.Parameter(strength * bias + (0 if layer.bias is None else layer.bias))
    for rows in ([entries] * 3, [entries, (), entries]):
        view = with_groups(model, gather([normal(7, 12)] * 3, rows).deltas)
        given = view[name](x)
        for number, row in enumerate(rows):
            expected = changed(x)[number] if row else layer(x)[number]
            # strengths are float32
            torch.testing.assert_close(given[number], expected, rtol=0, atol=1e-6 if row else 0)


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (WeightDelta("norm", torch.zeros(3)), r"shape \(12,\).*found \(3,\)"),
        (WeightDelta("norm", torch.zeros(12, 1), torch.zeros(1, 12)), "found low-rank parts"),
        (WeightDelta("layer", torch.zeros(12), parameter="bias"), r"shape \(8,\).*found \(12,\)"),
        (WeightDelta("table", torch.zeros(4, 12)), "linear, convolution or norm layer, found Embedding"),
    ],
)
def test_deltas_that_do_not_fit_are_named(delta, message) -> None:
    model = nn.ModuleDict({"layer": nn.Linear(12, 8), "norm": nn.LayerNorm(12), "table": nn.Embedding(4, 12)})
    with pytest.raises(weft.PluginError, match=message):
        apply_deltas(model, [delta])
