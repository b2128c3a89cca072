"""Low-rank changes on a CPU: every implementation is the definition, the operator is proper, and what it costs."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers.low_rank_cases import CASES, Case
from helpers.operations import Operations
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from weft.kernels.errors import KernelError
from weft.kernels.low_rank import Adapter, low_rank, uses_kernel
from weft.kernels.low_rank.call import Call
from weft.zoo.models import cards

IMPLEMENTATIONS = ("reference", "composed", "fused", "auto")


def by_hand(x: Tensor, base: Tensor, adapters: list[Adapter]) -> Tensor:
    """A loop over adapters, rows and positions, straight from the formula, in float64."""
    out = base.double()
    for adapter in adapters:
        rows = range(len(x)) if adapter.rows is None else adapter.rows.tolist()
        for place, row in enumerate(rows):
            strength = adapter.strength.double()[place % len(adapter.strength)]
            for n in range(x.shape[1]):
                mask = 1.0 if adapter.mask is None else adapter.mask.double()[place % len(adapter.mask), n]
                change = adapter.up.double() @ (adapter.down.double() @ x[row, n].double())
                out[row, n] += strength * mask * change
    return out


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_is_the_formula(name: str, implementation: Any) -> None:
    given = CASES[name].make(torch.float64)
    torch.testing.assert_close(low_rank(**given, implementation=implementation), by_hand(**given))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("implementation", ["reference", "fused", "auto"])
def test_errors_are_those_of_pytorch_in_the_same_type(implementation: Any, dtype: torch.dtype) -> None:
    """At most twice the error of two linear layers an adapter, over ranks of 1 to 130."""
    given = Case((2, 65, 80, 48), (1, 16, 130), masked=2).make(dtype)
    exact, out = by_hand(**given), given["base"]
    for adapter in given["adapters"]:
        narrow = F.linear(given["x"], adapter.down) * adapter.factor()
        out = out + F.linear(narrow, adapter.up)
    changed = low_rank(**given, implementation=implementation)
    assert changed.dtype == dtype
    ours, theirs = ((one.double() - exact).norm() / exact.norm() for one in (changed, out))
    assert ours <= max(2 * theirs, 1e-7)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_strength_0_is_absence_and_a_mask_of_ones_is_no_mask_bit_for_bit(
    implementation: Any, dtype: torch.dtype
) -> None:
    """Also where A x overflows: 0 times infinity is not to be heard of."""
    given = Case((3, 5, 8, 6), (4,)).make(dtype)
    x, base, (adapter,) = given["x"], given["base"], given["adapters"]
    largest = torch.finfo(dtype).max
    x[0], x[1, 2] = largest, largest
    adapter = replace(adapter, down=adapter.down.abs(), strength=torch.tensor([0.0, 1.0, 1.0]))
    mask = torch.ones(3, 5)
    mask[1, 2] = 0.0

    def call(**changes: Any) -> Tensor:
        return low_rank(x, base, [replace(adapter, **changes)], implementation=implementation)

    masked = call(mask=mask)
    assert torch.equal(masked[0], base[0])
    assert torch.equal(masked[1, 2], base[1, 2])
    assert masked.isfinite().all()
    assert not torch.equal(masked[2], base[2])
    assert torch.equal(call(strength=torch.zeros(1)), base)
    x[1, 2] = 1.0
    assert torch.equal(call(mask=torch.ones(3, 5)), call(mask=None))
    assert torch.equal(call(mask=torch.ones(1, 5)), call(mask=None))


def test_one_adapter_without_a_mask_is_two_linear_layers_bit_for_bit() -> None:
    """The strength is applied where there are the fewest channels, and other rows are not even computed."""
    given = Case((4, 33, 48, 40), (5,), rows=(3, 0, 1)).make()
    x, base, (adapter,) = given["x"], given["base"], given["adapters"]
    narrow = adapter.strength.view(-1, 1, 1) * F.linear(x[adapter.rows], adapter.down)
    expected = base.index_add(0, adapter.rows, F.linear(narrow, adapter.up))
    assert torch.equal(low_rank(**given), expected)
    every = replace(adapter, strength=torch.full((4,), 0.7), rows=None)
    expected = base + F.linear(0.7 * F.linear(x, adapter.down), adapter.up)
    assert torch.equal(low_rank(x, base, [every]), expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str, implementation: Any) -> None:
    """In x, base and every adapter's down, up and strength, of which the first is 0."""
    given = CASES[name].make(torch.float64)
    adapters = given["adapters"]
    factors = [tensor for one in adapters for tensor in (one.down, one.up, one.strength)]

    def call(x: Tensor, base: Tensor, *factors: Tensor) -> Tensor:
        threes = zip(factors[::3], factors[1::3], factors[2::3], strict=True)
        changed = [
            replace(one, down=down, up=up, strength=strength)
            for one, (down, up, strength) in zip(adapters, threes, strict=True)
        ]
        return low_rank(x, base, changed, implementation=implementation)

    inputs = [tensor.clone().requires_grad_(True) for tensor in (given["x"], given["base"], *factors)]
    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("implementation", ["reference", "composed", "auto"])
def test_gradients_in_a_mask(implementation: Any) -> None:
    given = CASES["masked"].make(torch.float64)
    (adapter,) = given["adapters"]

    def call(mask: Tensor) -> Tensor:
        return low_rank(
            given["x"], given["base"], [replace(adapter, mask=mask)], implementation=implementation
        )

    assert torch.autograd.gradcheck(call, (adapter.mask.requires_grad_(True),))


def test_the_operator_refuses_a_gradient_that_it_does_not_have() -> None:
    given = CASES["masked"].make()
    adapter = replace(given["adapters"][0], mask=given["adapters"][0].mask.requires_grad_(True))
    out = low_rank(given["x"].requires_grad_(True), given["base"], [adapter], implementation="fused")
    with pytest.raises(KernelError, match="one in a mask"):
        out.sum().backward()


def test_a_frozen_adapter_keeps_nothing_of_the_size_of_its_input() -> None:
    given = Case((2, 64, 32, 32), (4,)).make()
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    for trained in (False, True):
        kept.clear()
        down = given["adapters"][0].down.clone().requires_grad_(trained)
        adapters = [replace(given["adapters"][0], down=down)]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            low_rank(given["x"].requires_grad_(True), given["base"], adapters, implementation="fused")
        assert kept
        assert (max(kept) == given["x"].numel()) == trained


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["one", "all"])
def test_the_operator_is_registered_properly(name: str) -> None:
    """Schema, fake tensors, autograd and ahead-of-time tracing, as PyTorch checks custom operators."""
    given = CASES[name].make()
    for tensor in (given["x"], given["adapters"][0].up, given["adapters"][0].strength):
        tensor.requires_grad_(True)
    torch.library.opcheck(torch.ops.weft.low_rank.default, Call.of(**given).arguments)


def test_the_schema_names_a_calls_fields_in_their_order() -> None:
    """The operator's arguments are packed by position."""
    names = [one.name for one in torch.ops.weft.low_rank.default._schema.arguments]
    assert names == [one.name for one in dataclasses.fields(Call)]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("implementation", ["auto", "fused"])
def test_compiles_to_one_graph(implementation: Any) -> None:
    given = CASES["all"].make()
    x, base, adapters = given["x"].requires_grad_(True), given["base"], given["adapters"]

    def call(x: Tensor, base: Tensor, downs: list[Tensor], ups: list[Tensor]) -> Tensor:
        changed = [replace(one, down=down, up=up) for one, down, up in zip(adapters, downs, ups, strict=True)]
        return low_rank(x, base, changed, implementation=implementation).square().sum()

    tensors = (x, base, [one.down for one in adapters], [one.up for one in adapters])
    values = [call(*tensors), torch.compile(call, fullgraph=True, backend="aot_eager")(*tensors)]
    torch.testing.assert_close(values[1], values[0])
    slopes = [torch.autograd.grad(value, x)[0] for value in values]
    torch.testing.assert_close(slopes[1], slopes[0])


def test_on_cuda_the_kernel_is_taken() -> None:
    """Fake tensors of a GPU: no such device is needed to see what would be picked."""
    with FakeTensorMode(), torch.device("cuda"):

        def picks(
            dtype: torch.dtype = torch.bfloat16,
            base: torch.dtype | None = None,
            rank: int = 16,
            count: int = 1,
            trained: bool = False,
        ) -> bool:
            x = torch.empty(2, 64, 32, dtype=dtype)
            mask = torch.ones(2, 64, requires_grad=trained)
            adapter = Adapter(torch.empty(rank, 32), torch.empty(32, rank), torch.ones(2), mask)
            return uses_kernel(x, torch.empty(2, 64, 32, dtype=base or dtype), [adapter] * count)

        assert picks()
        assert picks(torch.float32)
        assert picks(rank=320)
        assert picks(count=30)
        assert not picks(count=31)
        assert not picks(rank=320, count=11)
        assert not picks(torch.float64)
        assert not picks(base=torch.float32)
        assert not picks(trained=True)


ROWS = 2
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@contextmanager
def adapted(unet: nn.Module, regions: bool) -> Iterator[int]:
    """An adapter of rank 16 on every attention projection, in a region or everywhere; says how many layers."""
    layers = [layer for name, layer in unet.named_modules() if name.endswith(PROJECTIONS)]

    @functools.cache
    def adapters(wide_in: int, wide_out: int, positions: int) -> list[Adapter]:
        mask = torch.empty(ROWS, positions) if regions else None
        return [Adapter(torch.empty(16, wide_in), torch.empty(wide_out, 16), torch.empty(ROWS), mask)]

    def hook(layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return low_rank(
            inputs[0], output, adapters(layer.in_features, layer.out_features, inputs[0].shape[1])
        )

    handles = [layer.register_forward_hook(hook) for layer in layers]
    yield len(layers)
    for handle in handles:
        handle.remove()


def counted(unet: nn.Module) -> tuple[int, Counter[str]]:
    """Floating-point operations and launches of a call at 64x64 latents."""
    latents, context = torch.empty(ROWS, 4, 64, 64), torch.empty(ROWS, 77, 768)
    with torch.no_grad(), Operations() as operations, FlopCounterMode(display=False) as flops:
        unet(latents, torch.tensor(500), context)
    return flops.get_total_flops(), Counter(operations.names)


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_an_adapter_on_every_attention_of_stable_diffusion_costs_little(device: str) -> None:
    """At most 3 % of the operations and, by fake tensors of a GPU, one launch a layer, in a region or not."""
    config = UNet2DConditionModel.load_config(cards()["sd15"].folder / "unet")
    with FakeTensorMode() if device == "cuda" else nullcontext(), torch.device(device):
        unet = UNet2DConditionModel.from_config(config)
        plain, launches = counted(unet)
        for regions in (False, True):
            with adapted(unet, regions) as layers:
                changed, more = counted(unet)
            assert layers == 8 * 16
            assert 1.005 * plain < changed <= 1.03 * plain
            if device == "cuda":
                assert {name: more[name] - launches[name] for name in more - launches} == {"low_rank": layers}


X, BASE = torch.ones(3, 4, 5), torch.ones(3, 4, 6)
ADAPTER = Adapter(torch.ones(2, 5), torch.ones(6, 2), torch.ones(3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": X[0]}, ["'x'", "(r, n, d)", "(4, 5)"]),
        ({"x": X[:, :0]}, ["'x'", "nothing of it 0", "(3, 0, 5)"]),
        ({"x": X.int()}, ["'x'", "bfloat16", "int32"]),
        ({"base": BASE[:2]}, ["'base'", "(3, 4, 6)", "(2, 4, 6)"]),
        ({"base": BASE.to("meta")}, ["'base'", "on cpu", "on meta"]),
        ({"adapters": []}, ["'adapters'", "at least one"]),
        ({"down": torch.ones(2, 4)}, ["number 1, 'down'", "(k, 5)", "(2, 4)"]),
        ({"down": torch.ones(0, 5)}, ["'down'", "(0, 5)"]),
        ({"down": torch.tensor(1.0)}, ["'down'", "(k, 5)", "()"]),
        ({"up": torch.ones(6, 3)}, ["'up'", "(6, 2)", "(6, 3)"]),
        ({"up": torch.ones(6, 2).int()}, ["'up'", "bfloat16", "int32"]),
        ({"strength": torch.ones(2)}, ["'strength'", "(3 or 1)", "(2,)"]),
        ({"mask": torch.ones(3, 5)}, ["'mask'", "(3 or 1, 4)", "(3, 5)"]),
        ({"mask": torch.ones(3, 4).to("meta")}, ["'mask'", "on cpu", "on meta"]),
        ({"rows": torch.tensor([0, 1])}, ["'strength'", "(2 or 1)", "(3,)"]),
        ({"rows": torch.tensor([0, 1, 3])}, ["'rows'", "0 to 2", "[0, 1, 3]"]),
        ({"rows": torch.tensor([0, 1, 1])}, ["'rows'", "at most once", "[0, 1, 1]"]),
        ({"rows": torch.tensor([0.0, 1, 2])}, ["'rows'", "int64"]),
    ],
)
@pytest.mark.parametrize("implementation", ["auto", "fused"])
def test_what_does_not_fit_is_named(changes: dict[str, Any], words: list[str], implementation: Any) -> None:
    given: dict[str, Any] = {"x": X, "base": BASE, "adapters": [ADAPTER]} | changes
    if not changes.keys() & {"x", "base", "adapters"}:
        given = {"x": X, "base": BASE, "adapters": [ADAPTER, replace(ADAPTER, **changes)]}
    with pytest.raises(KernelError) as error:
        low_rank(**given, implementation=implementation)
    for word in words:
        assert word in str(error.value)
