"""Runs the Triton kernels in Triton's interpreter and prints, as JSON, how far each case is from the reference.

A program of its own: the interpreter is chosen when triton is imported, for the whole process.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

os.environ["TRITON_INTERPRET"] = "1"

import torch

from helpers.attention_cases import Case
from helpers.low_rank_cases import Case as LowRankCase
from weft.kernels.combine import Update
from weft.kernels.combine import launch as combining
from weft.kernels.combine import reference as expectation
from weft.kernels.combine.call import Call as Combined
from weft.kernels.cross_attention import launch, reference
from weft.kernels.cross_attention.call import Call
from weft.kernels.low_rank import launch as low_rank_launch
from weft.kernels.low_rank import reference as low_rank_reference
from weft.kernels.low_rank.call import Call as LowRankCall

# a position and a token past the edge of a tile, several tiles, every head size of SD1.5 and the small models' own
PARITY = {
    "plain, head 40": Case((1, 65, 1, 40), (77,)),
    "two segments by row, head 64": Case((2, 33, 1, 64), (77, 4), weights="row"),
    "three segments by position, head 80": Case((2, 20, 1, 80), (9, 17, 1), weights="position"),
    "many tiles with regions and maps, head 160": Case(
        (2, 64, 1, 160), (130, 3), weights="row", regions=2, capture=True, rows=slice(1, 2)
    ),
    "regions, head 16": Case((1, 7, 2, 16), (13,), regions=3),
    "maps of two heads, head 32": Case((1, 66, 2, 32), (77,), capture=True),
    "maps of one tile, head 8": Case((2, 9, 2, 8), (13, 16), weights="row", capture=True, rows=slice(1, 2)),
    "all, head 8": Case(
        (2, 9, 2, 8), (129, 16), weights="position", regions=1, capture=True, rows=slice(0, 1)
    ),
}


UPDATES = {
    "ddim": Update("ddim", 1.0, 0.6, 0.8, 0.9, 0.4, 1.0),
    "velocity": Update("ddim", 0.8, 0.6, 1.0, 0.9, 0.4, 0.8, 0.6),
    "euler": Update("euler", 1.0, 2.0, 1.0, 2.0, -0.5),
    "first order": Update("dpmpp_2m", 1.0, 0.6, 0.8, 0.9, -0.3),
    "second order": Update("dpmpp_2m", 1.0, 0.6, 0.8, 0.9, -0.3, -0.15, 1.1),
}


def combine(errors: dict[str, float]) -> None:
    """Every update with three predictions, one and a half blocks long."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 4, 19, 20, generator=generator) for _ in range(5)]
    *predictions, latents, before = tensors
    latents[1, 0, 0, 0] = float("inf")
    for name, update in UPDATES.items():
        expected, clean = expectation(predictions, (7.5, -2.0), latents, update, before)
        out, kept = torch.full_like(latents, float("nan")), torch.full_like(latents, float("nan"))
        call = Combined.of(predictions, (7.5, -2.0), latents, update, before)
        found = torch.full(combining.faults(call), -1, dtype=torch.int32)
        combining.step(call, out, kept, found)
        errors[f"{name}: latents"] = distance(out.nan_to_num(posinf=0), expected.nan_to_num(posinf=0))
        errors[f"{name}: clean"] = distance(kept.nan_to_num(posinf=0), clean.nan_to_num(posinf=0))
        errors[f"{name}: faults"] = float(found.sum(1).tolist() != [0, 1])


# odd sizes past the edges of tiles, ranks from 1 to several tiles
LOW_RANK = {
    "rank 16": LowRankCase((2, 33, 40, 65), (16,)),
    "rank 1, some rows": LowRankCase((3, 21, 7, 3), (1,), masked=1, rows=(2, 0)),
    "three adapters, two masked": LowRankCase((2, 40, 70, 130), (4, 17, 128), masked=2, rows=(1,)),
    "a rank of two tiles": LowRankCase((1, 5, 33, 20), (130,), masked=1),
    "one number for all rows": LowRankCase((3, 19, 16, 24), (8, 3), masked=2, one=True),
}


def low_rank(errors: dict[str, float]) -> None:
    """Output, and the gradient in x, which is the same kernel with its factors transposed and nothing to add to."""
    for name, case in LOW_RANK.items():
        call = LowRankCall.of(**case.make())
        flipped = replace(
            call, base=None, downs=[up.t() for up in call.ups], ups=[down.t() for down in call.downs]
        )
        flipped = replace(flipped, x=call.base)
        for direction, one in (("output", call), ("gradient", flipped)):
            out = torch.full_like(one.empty_output(), float("nan"))
            low_rank_launch.forward(one, out)
            errors[f"{name}: {direction}"] = distance(out, low_rank_reference(*one.unpacked))


def nothing_where_the_factor_is_0(errors: dict[str, float]) -> None:
    """The very bits of what is changed, also where a narrow tensor overflows; and a mask of ones is no mask."""
    made = LowRankCase((2, 40, 16, 70), (4, 2), masked=2).make()
    x, base, (first, second) = made["x"], made["base"], made["adapters"]
    x[1, 3], base[1, 5, 7] = 3e38, -0.0
    first, second = replace(first, mask=first.mask.clone()), replace(second, strength=torch.zeros(2))
    first.mask[1, :9], first.strength[:] = 0.0, 1.0
    call = LowRankCall.of(x, base, [first, second])
    out = torch.full_like(base, float("nan"))
    low_rank_launch.forward(call, out)
    untouched = first.mask == 0
    same = out[untouched].view(torch.int32).equal(base[untouched].view(torch.int32))
    errors["a factor of 0"] = float(not same or not out.isfinite().all())
    ones, none = (torch.full_like(base, float("nan")) for _ in range(2))
    low_rank_launch.forward(LowRankCall.of(x, base, [replace(first, mask=torch.ones(2, 40))]), ones)
    low_rank_launch.forward(LowRankCall.of(x, base, [replace(first, mask=None)]), none)
    errors["a mask of ones"] = float(not ones.nan_to_num().equal(none.nan_to_num()))


def main(names: list[str]) -> None:
    errors: dict[str, float] = {}
    combine(errors)
    low_rank(errors)
    nothing_where_the_factor_is_0(errors)
    for name in names or PARITY:
        given = PARITY[name].make()
        query, segments = given.pop("query"), given.pop("segments")
        regions, rows, capture = given.get("regions"), given.get("rows", slice(None)), "capture" in given
        call = Call.of(query, segments, regions, rows, capture)
        moved = query.clone().requires_grad_(True)
        expected, expected_maps = reference(moved, segments, regions, rows, capture)
        out = torch.full_like(query, float("nan"))
        maps = torch.empty(0) if expected_maps is None else torch.full_like(expected_maps, float("nan"))
        launch.forward(call, out, maps)
        errors[f"{name}: output"] = distance(out, expected)
        generator = torch.Generator().manual_seed(1)
        given_out = torch.randn(expected.shape, generator=generator)
        value, given_maps = (expected * given_out).sum(), None
        if expected_maps is not None:
            errors[f"{name}: maps"] = distance(maps, expected_maps)
            given_maps = torch.randn(expected_maps.shape, generator=generator)
            value = value + (expected_maps * given_maps).sum()
        (slope,) = torch.autograd.grad(value, moved)
        found = torch.full_like(query, float("nan"))
        launch.backward(call, given_out, given_maps, found)
        errors[f"{name}: gradient"] = distance(found, slope)
    print(json.dumps(errors))


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, in parts of the largest number where that is above 1."""
    return float((found - expected.detach()).abs().max() / expected.detach().abs().max().clamp_min(1.0))


if __name__ == "__main__":
    main(sys.argv[1:])
