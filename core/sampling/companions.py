"""Samples that belong together: every asked one, and beside it those of the scenes that plugins want drawn with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..api.plugin import Plugin
from ..scene.scene import Scene
from .branch_evaluator import PreparedScene
from .guarded import guarded


def companions(plugins: Mapping[str, Plugin], scene: Scene) -> dict[str, tuple[Scene, ...]]:
    """The scenes that each plugin wants drawn beside a scene, equal ones as one object; none where it wants none."""
    wanted: dict[str, tuple[Scene, ...]] = {}
    known: list[Scene] = []
    for key, plugin in plugins.items():
        scenes = guarded(plugin.name, "companions", partial(plugin.companions, scene))
        known += [one for one in scenes if one not in known]
        if scenes:
            wanted[key] = tuple(known[known.index(one)] for one in scenes)
    return wanted


@dataclass(frozen=True)
class SceneSet:
    """A scene, and the companions that plugins want beside it, by plugin."""

    scene: PreparedScene
    beside: Mapping[str, tuple[PreparedScene, ...]]


@dataclass(frozen=True)
class Together:
    """The samples of one batch.

    Args:
        samples: the asked ones, and after them their companions, with their seeds.
        sets: by plugin, the samples that belong together: companions in the plugin's order, and last the asked one.
            Every sample is in one set; a plugin without companions is not there.
        owners: of every sample, the number of the asked one that it was drawn for.
    """

    samples: tuple[tuple[PreparedScene, int], ...]
    sets: Mapping[str, tuple[tuple[int, ...], ...]]
    owners: tuple[int, ...]


def together(asked: Sequence[tuple[SceneSet, int]]) -> Together:
    """The samples to denoise for some scenes, each with its seed, which is that of its companions too."""
    samples = [(one.scene, seed) for one, seed in asked]
    owners = list(range(len(samples)))
    sets: dict[str, list[tuple[int, ...]]] = {}
    for number, (one, seed) in enumerate(asked):
        drawn: dict[int, int] = {}
        for key, beside in one.beside.items():
            for scene in beside:
                if id(scene) not in drawn:
                    drawn[id(scene)] = len(samples)
                    samples.append((scene, seed))
                    owners.append(number)
            sets.setdefault(key, []).append((*(drawn[id(scene)] for scene in beside), number))
    whole = {key: _with_the_rest(own, len(samples)) for key, own in sets.items()}
    return Together(tuple(samples), whole, tuple(owners))


def _with_the_rest(sets: Sequence[tuple[int, ...]], count: int) -> tuple[tuple[int, ...], ...]:
    within = {sample for one in sets for sample in one}
    return (*sets, *((sample,) for sample in range(count) if sample not in within))
