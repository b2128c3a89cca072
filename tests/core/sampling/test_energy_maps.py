"""Energies read the kinds of maps that they ask for, and are differentiated through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

import weft
from weft.plugin import AttentionMaps, Energy, Step
from weft.testing import random_pipeline

SCENE = weft.Scene("a toy on grass")
SEEN: list[AttentionMaps] = []


@weft.record
class Spread(Energy):
    """Moves the latents until attention is spread."""

    name: ClassVar[str] = "spread"
    neutral: ClassVar[Mapping[str, Any]] = {"kinds": ()}

    kinds: tuple[str, ...]

    def applies(self, step: Step) -> bool:
        return bool(self.kinds)

    def step_size(self, step: Step) -> float:
        return 100.0

    def map_kinds(self):
        return frozenset(self.kinds)

    def loss(self, maps: AttentionMaps, step: Step) -> torch.Tensor:
        SEEN.append(maps)
        layers = [*maps.by_site.values(), *maps.self_by_site.values()]
        return torch.stack([one.square().sum(dim=-1).mean(dim=(1, 2)) for one in layers]).mean(dim=0)


def draw(*chain) -> torch.Tensor:
    return random_pipeline().generate(SCENE, guidance=chain, steps=2, seeds=(0, 1)).latents


@pytest.mark.parametrize("kinds", [("cross",), ("self",), ("cross", "self")])
def test_an_energy_gets_what_it_asks_for(kinds: tuple[str, ...]) -> None:
    SEEN.clear()
    moved = draw(Spread(kinds))
    assert (moved - draw()).abs().max() > 1e-5
    for maps in SEEN:
        assert bool(maps.by_site) == ("cross" in kinds)
        assert bool(maps.self_by_site) == ("self" in kinds)
        for site, one in maps.self_by_site.items():
            positions = site.grid[0] * site.grid[1]
            assert one.shape == (2, 4, positions, positions)
