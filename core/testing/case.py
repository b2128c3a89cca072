"""What a check of a plugin is given, and how it draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..api.conditioner import Conditioner
from ..api.plugin import Plugin
from ..pipeline import Pipeline
from ..result import Result
from ..scene.reading import without_warnings
from ..scene.scene import Scene, Subject
from .model import random_pipeline

STEPS = 3


@dataclass(frozen=True)
class Case:
    """A model and a scene to check a plugin on.

    Args:
        pipeline: makes the model; a small random one by default.
        scene: what the plugin reads.
        conditioners: present in every generation, for a strategy that needs one.
    """

    pipeline: Callable[[], Pipeline] = random_pipeline
    scene: Scene = dataclasses.field(
        default_factory=lambda: Scene(
            "a toy on grass", subjects=(Subject("toy", box=(0.25, 0.25, 0.75, 1.0)),)
        )
    )
    conditioners: tuple[Conditioner, ...] = ()

    @property
    def other_scene(self) -> Scene:
        """The same subjects in other places of another prompt: every box lies in the upper left quarter."""
        moved = []
        for subject in self.scene.subjects:
            if subject.box is not None:
                left, top, right, bottom = subject.box
                subject = dataclasses.replace(subject, box=(left / 2, top / 2, right / 2, bottom / 2))
            moved.append(subject)
        return dataclasses.replace(self.scene, prompt=f"{self.scene.prompt} at night", subjects=tuple(moved))


Check = Callable[[Plugin, Case], None]


def draw(plugin: Plugin | None, case: Case, scene: Any = None, **options: Any) -> Result:
    """An image of the case's scene, or of another one, with a plugin or without."""
    return draw_chain([] if plugin is None else [plugin], case, scene, **options)


def draw_chain(chain: list[Plugin], case: Case, scene: Any = None, **options: Any) -> Result:
    """As `draw`, with several plugins in this order."""
    conditioners = [*case.conditioners, *(one for one in chain if one.kind == "conditioner")]
    guidance = [one for one in chain if one.kind == "guidance"]
    defaults: dict[str, Any] = {
        "conditioners": conditioners,
        "guidance": guidance,
        "steps": STEPS,
        "seeds": (0,),
    }
    with without_warnings():  # of scene data that a plugin under check does not read
        return case.pipeline().generate(case.scene if scene is None else scene, **defaults | options)
