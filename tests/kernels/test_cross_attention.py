"""Cross-attention on a CPU: every implementation is the definition, and the operator is a proper operator."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers.attention_cases import CASES, Case
from torch._subclasses.fake_tensor import FakeTensorMode

from weft.kernels.cross_attention import Regions, Segment, Segments, cross_attention, uses_kernel
from weft.kernels.cross_attention.call import Call
from weft.kernels.errors import KernelError


def by_hand(query, segments, regions=None, rows=slice(None), capture=False):
    """A loop over rows, heads and segments, straight from the formula."""
    out, maps = torch.zeros_like(query), []
    for r in range(query.shape[0]):
        for h in range(query.shape[2]):
            for s, (start, stop) in enumerate(segments):
                key, value = segments.key[r, start:stop, h], segments.value[r, start:stop, h]
                scores = query[r, :, h] @ key.T / query.shape[-1] ** 0.5
                if regions is not None:
                    for g in range(regions.space.shape[1]):
                        for t in range(start, min(stop, regions.tokens.shape[-1])):
                            scores[:, t - start] += regions.space[r, g] * regions.tokens[r, g, t]
                probabilities = scores.softmax(-1)
                weight = 1.0 if segments.weights is None else segments.weights[s, r][:, None].to(query)
                out[r, :, h] += weight * (probabilities @ value)
                if capture and s == 0 and r in range(*rows.indices(len(query))):
                    maps.append(probabilities)
    if not capture:
        return out, None
    r = len(range(*rows.indices(len(query))))
    return out, torch.stack(maps).unflatten(0, (r, query.shape[2]))


@pytest.mark.parametrize("implementation", ["reference", "composed", "fused", "auto"])
@pytest.mark.parametrize("name", CASES)
def test_is_the_formula(name: str, implementation: Any) -> None:
    given = CASES[name].make(torch.float64)
    expected = by_hand(**given)
    found = cross_attention(**given, implementation=implementation)
    torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=1e-6)  # weights are float32
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(found[1], expected[1])


@pytest.mark.parametrize("name", CASES)
def test_plain_attention_is_pytorchs_own_bit_for_bit(name: str) -> None:
    """Where nothing is added, no bit of the output depends on what is captured or on how the call is put."""
    given = CASES[name].make()
    query, segments = given["query"], given["segments"]
    first = Segments.of(
        [Segment(segments.key[:, : segments.lengths[0]], segments.value[:, : segments.lengths[0]])]
    )
    plain = torch.nn.functional.scaled_dot_product_attention(
        *(tensor.transpose(1, 2) for tensor in (query, first.key, first.value))
    ).transpose(1, 2)
    assert torch.equal(cross_attention(query, first)[0], plain)
    assert torch.equal(cross_attention(query, first, capture=True)[0], plain)


@pytest.mark.parametrize("implementation", ["reference", "composed", "fused"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_in_the_query(name: str, implementation: Any) -> None:
    given = CASES[name].make(torch.float64)
    query = given.pop("query").requires_grad_(True)

    def call(query):
        return [
            one for one in cross_attention(query, **given, implementation=implementation) if one is not None
        ]

    assert torch.autograd.gradcheck(call, (query,), fast_mode=True)


@pytest.mark.parametrize("implementation", ["reference", "composed", "auto"])
def test_gradients_in_keys_values_and_weights(implementation: Any) -> None:
    given = CASES["all"].make(torch.float64)
    query, segments, regions = given.pop("query"), given.pop("segments"), given.pop("regions")
    tensors = [query, segments.key, segments.value, regions.space]

    def call(query, key, value, space):
        parts = dataclasses.replace(segments, key=key, value=value)
        return cross_attention(
            query, parts, Regions(space, regions.tokens), **given, implementation=implementation
        )

    inputs = [tensor.clone().requires_grad_(True) for tensor in tensors]
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


def test_the_operator_refuses_a_gradient_that_it_does_not_have() -> None:
    given = CASES["plain"].make()
    segments = dataclasses.replace(given["segments"], key=given["segments"].key.requires_grad_(True))
    out, _ = cross_attention(given["query"], segments, implementation="fused")
    with pytest.raises(KernelError, match="query alone"):
        out.sum().backward()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["plain", "all"])
def test_the_operator_is_registered_properly(name: str) -> None:
    """Schema, fake tensors, autograd and ahead-of-time tracing, as PyTorch checks custom operators."""
    given = CASES[name].make()
    given["query"].requires_grad_(True)
    call = Call.of(**{"regions": None, "rows": slice(None), "capture": False, **given})
    torch.library.opcheck(torch.ops.weft.cross_attention.default, call.arguments)


def test_the_schema_names_a_calls_fields_in_their_order() -> None:
    """Both operators' arguments are packed by position."""
    wanted = [one.name for one in dataclasses.fields(Call)]
    operators = torch.ops.weft
    forward = [one.name for one in operators.cross_attention.default._schema.arguments]
    backward = [one.name for one in operators.cross_attention_backward.default._schema.arguments]
    assert forward == wanted
    assert backward == ["given", "given_maps", *wanted]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("implementation", ["auto", "fused"])
def test_compiles_to_one_graph(implementation: Any) -> None:
    given = CASES["all"].make()
    query, segments, regions = given["query"].requires_grad_(True), given["segments"], given["regions"]

    def attend(query, key, value, weights, space, tokens):
        parts = dataclasses.replace(segments, key=key, value=value, weights=weights)
        regions = Regions(space, tokens)
        out, maps = cross_attention(
            query, parts, regions, given["rows"], capture=True, implementation=implementation
        )
        return out.square().sum() + maps.square().sum()

    tensors = (query, segments.key, segments.value, segments.weights, regions.space, regions.tokens)
    expected = attend(*tensors)
    found = torch.compile(attend, fullgraph=True, backend="aot_eager")(*tensors)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(value, query)[0] for value in (expected, found)]
    torch.testing.assert_close(slopes[1], slopes[0])


def test_the_operator_keeps_nothing_but_its_inputs_for_the_backward_pass() -> None:
    given = Case((2, 64, 2, 16), (20,), capture=True).make()
    given["query"].requires_grad_(True)
    inputs = {
        tensor.untyped_storage().data_ptr()
        for tensor in (given["query"], given["segments"].key, given["segments"].value)
    }
    saved: dict[str, set[int]] = {}
    for implementation in ("fused", "composed"):
        kept = saved[implementation] = set()

        def keep(tensor, kept=kept):
            kept.add(tensor.untyped_storage().data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            results = cross_attention(**given, implementation=implementation)
    assert saved["fused"] <= inputs
    assert not saved["composed"] <= inputs
    assert results[1] is not None


def test_on_cuda_the_kernel_is_taken_where_it_has_more_to_do() -> None:
    """Fake tensors of a GPU: no such device is needed to see what would be picked."""
    with FakeTensorMode():

        def picks(dtype: torch.dtype = torch.float16, width: int = 40, **extra: Any) -> bool:
            query = torch.empty(2, 64, 8, width, device="cuda", dtype=dtype)
            key = torch.empty(2, 7, 8, width, device="cuda", dtype=dtype)
            weight = torch.ones(2, 1, device="cuda") if extra.pop("weighted", False) else None
            parts = [Segment(key, key)] * extra.pop("segments", 1) + [Segment(key, key, weight)] * (
                weight is not None
            )
            return uses_kernel(query, Segments.of(parts), **extra)

        assert not picks()
        assert picks(segments=2)
        assert picks(weighted=True)
        assert picks(capture=True)
        assert not picks(torch.float64, capture=True)
        assert not picks(width=320, capture=True)
        wanted = torch.empty(2, 1, 64, device="cuda", requires_grad=True)
        assert not picks(regions=Regions(wanted, torch.empty(2, 1, 7, device="cuda")))


def wrong(**changes: Any) -> dict[str, Any]:
    return CASES["all"].make() | changes


QUERY = CASES["all"].make()["query"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query": QUERY[0]}, ["'query'", "(r, n, h, d)", "(5, 2, 8)"]),
        ({"query": QUERY[:, :0]}, ["'query'", "nothing of it 0", "(3, 0, 2, 8)"]),
        ({"query": QUERY.int()}, ["'query'", "bfloat16", "int32"]),
        ({"query": QUERY.double()}, ["'segments'", "(3, 11, 2, 8) of float64", "float32"]),
        ({"query": QUERY.to("meta")}, ["'segments'", "on meta", "on cpu"]),
        ({"query": QUERY[..., :4]}, ["'segments'", "(3, 11, 2, 4)", "(3, 11, 2, 8)"]),
        ({"query": QUERY[:, :4]}, ["'weights'", "(2, 3, 1 or 4)", "(2, 3, 5)"]),
        ({"query": QUERY * float("nan")}, ["'query'", "finite", "(3, 5, 2, 8)"]),
        ({"rows": slice(3, 4)}, ["'rows'", "3 rows", "slice(3, 4"]),
        (
            {"regions": Regions(torch.ones(3, 1, 4), torch.ones(3, 1, 5))},
            ["'space'", "(3, g, 5)", "(3, 1, 4)"],
        ),
        (
            {"regions": Regions(torch.ones(3, 1, 5), torch.ones(3, 2, 5))},
            ["'tokens'", "(3, 1, t)", "(3, 2, 5)"],
        ),
        ({"regions": Regions(torch.ones(3, 1, 5), torch.ones(3, 1, 12))}, ["'tokens'", "11", "12 tokens"]),
    ],
)
@pytest.mark.parametrize("implementation", ["auto", "fused"])
def test_what_does_not_fit_is_named(changes: dict[str, Any], words: list[str], implementation: Any) -> None:
    with pytest.raises(KernelError) as error:
        cross_attention(**wrong(**changes), implementation=implementation)
    for word in words:
        assert word in str(error.value)


def test_segments_that_do_not_fit_each_other_are_named() -> None:
    one, other = torch.ones(2, 3, 4, 8), torch.ones(2, 3, 4, 6)
    with pytest.raises(KernelError, match="at least one"):
        Segments.of([])
    with pytest.raises(KernelError, match=r"number 0: expected key and value of one shape.*\(2, 3, 4, 6\)"):
        Segments.of([Segment(one, other)])
    with pytest.raises(KernelError, match=r"number 1: expected shape \(2, 3, 4, 8\).*\(2, 3, 4, 6\)"):
        Segments.of([Segment(one, one), Segment(other, other)])
    with pytest.raises(KernelError, match=r"'weight': expected shape \(2, 1\).*\(3, 1\)"):
        Segments.of([Segment(one, one, torch.ones(3, 1))])
    with pytest.raises(KernelError, match="as many positions"):
        Segments.of([Segment(one, one, torch.ones(2, 5)), Segment(one, one, torch.ones(2, 6))])
    both = Segments.of([Segment(one, one)] * 2)
    with pytest.raises(KernelError, match="add up to 6"):
        cross_attention(one, dataclasses.replace(both, lengths=(3, 2)))


def test_a_query_whose_sum_overflows_is_not_refused() -> None:
    """Its sum is infinite, and every number of it is finite; keys of zeros make the output the values' mean."""
    given = CASES["plain"].make()
    segments = given["segments"]
    query = torch.full_like(given["query"], 3e38)
    assert not query.sum().isfinite()
    out, _ = cross_attention(query, dataclasses.replace(segments, key=torch.zeros_like(segments.key)))
    torch.testing.assert_close(out, segments.value.mean(dim=1, keepdim=True).expand_as(out))
