"""What conditioners and strategies refuse of a scene, before anything is loaded or drawn. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from ..api.conditioner import Conditioner
from ..api.guidance import Guidance
from ..api.plugin import Plugin
from ..errors import WeftError
from ..scene.scene import Scene
from .guarded import guarded


def in_branches(conditioners: Sequence[Conditioner]) -> dict[str, Conditioner]:
    """Conditioners by their names in branches; the second of one name is ``name_2``."""
    named: dict[str, Conditioner] = {}
    for conditioner in conditioners:
        if conditioner.strength == 0.0:
            continue  # absence, bit for bit: not even its null takes part
        count = sum(1 for other in named.values() if other.name == conditioner.name)
        named[conditioner.name if count == 0 else f"{conditioner.name}_{count + 1}"] = conditioner
    return named


def refusals(
    scenes: Sequence[Scene], conditioners: Sequence[Conditioner], strategies: Sequence[Guidance]
) -> Iterator[tuple[Plugin, WeftError]]:
    """What each plugin refuses of the scenes, one error a plugin; a conditioner of strength 0 is not asked."""
    named = in_branches(conditioners)
    known: Mapping[str, Conditioner] = {one.name: one for one in conditioners} | named
    for conditioner in named.values():
        for scene in scenes:
            try:
                guarded(conditioner.name, "check", partial(conditioner.check, scene))
            except WeftError as error:
                yield conditioner, error
                break
    for strategy in strategies:
        try:
            guarded(strategy.name, "check", partial(strategy.check, scenes, known))
        except WeftError as error:
            yield strategy, error
