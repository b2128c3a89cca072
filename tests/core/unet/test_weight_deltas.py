"""Weight deltas as they are installed: which are one operation, and the bits of their sum."""

from __future__ import annotations

import torch
from helpers.operations import Operations
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from weft.core.api.ports import BlockInsert, WeightDelta
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.core.unet.weight_deltas import apply_deltas, installed
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
            with installed(model, gather(contexts, rows).deltas) as changed, Operations() as operations:
                assert changed["layer"](x).shape == (3, 5, 8)
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
        with installed(model, groups) as view:
            changed = view["layer"](x)
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
    with apply_deltas(nn.ModuleDict({"layer": layer}), [huge]) as changed:
        assert torch.equal(changed["layer"](x), plain)


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
