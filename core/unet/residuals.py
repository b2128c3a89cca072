"""Port 4: asking for feature residuals, and adding them where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from ..api.ports import FeatureResiduals, Residuals
from .conditions import Conditions
from .entry_calls import called, fitting, refused
from .group import Group

PLACE = "feature residuals"


def residuals_of(
    group: Group[FeatureResiduals], latents: Tensor, timestep: Tensor, conditions: Conditions, unet: Any
) -> Residuals:
    """What the module of some rows gives.

    Raises:
        PluginError: it raised, or gave something else, or more than there are down blocks.
    """
    arguments = group.of(latents), timestep, group.of(conditions.context), group.state
    parts = called(group.entry, PLACE, partial(group.entry.module, *arguments))
    if not isinstance(parts, Residuals):
        raise refused(group.entry, PLACE, f"expected Residuals, found {type(parts).__name__}")
    if len(parts.blocks) > (count := len(unet.down_blocks)):
        counts = f"expected at most {count} residuals of down blocks, found {len(parts.blocks)}"
        raise refused(group.entry, PLACE, counts)
    return parts


def added(group: Group[Any], hidden: Tensor, part: Any, place: str) -> Tensor:
    """The batch with what a module gave for its rows added.

    Raises:
        PluginError: it has another shape.
    """
    return group.add(hidden, fitting(group.entry, place, part, group.of(hidden)))


def add_skips(skips: Sequence[Tensor], group: Group[FeatureResiduals], parts: Residuals) -> list[Tensor]:
    """The skip connections with one residual each.

    Raises:
        PluginError: there are more or fewer, or one has another shape.
    """
    if len(parts.skips) != len(skips):
        counts = f"expected {len(skips)} residuals of skip connections, found {len(parts.skips)}"
        raise refused(group.entry, PLACE, counts)
    pairs = enumerate(zip(skips, parts.skips, strict=True))
    return [added(group, skip, part, f"residual of skip {number}") for number, (skip, part) in pairs]


def add_blocks(
    hidden: Tensor, number: int, residuals: Sequence[tuple[Group[FeatureResiduals], Residuals]]
) -> Tensor:
    """The output of a down block with its residuals."""
    for group, parts in residuals:
        if number < len(parts.blocks):
            hidden = added(group, hidden, parts.blocks[number], f"residual of down block {number}")
    return hidden
