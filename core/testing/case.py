"""What a check of a plugin is given, and how it draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from ..api.conditioner import Conditioner
from ..api.plugin import Plugin
from ..pipeline import Pipeline
from ..result import Result
from ..scene.image_io import open_image
from ..scene.reading import without_warnings
from ..scene.scene import Scene, SceneImage, Subject
from .model import random_pipeline

STEPS = 3


@dataclass(frozen=True)
class Case:
    """A model and a scene to check a plugin on.

    The default scene has a prompt, and a subject with a box. A plugin that reads images, masks or maps is given a scene
    that has them, of the size of the model's images (32 x 32 pixels of the default model) where they are spatial::

        Case(scene=Scene("a toy on grass", maps={"edges": edges}))

    A plugin with weights of its own is given a model that has them: ``pipeline=lambda: load(folder)``.

    Args:
        pipeline: makes the model; a small random one by default. It is called often, so it should keep the model.
        scene: what the plugin reads: its effect has to show there.
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
        """The same subjects in other places of another prompt, with other images.

        Every box lies in the upper left quarter, and every image is turned by 180 degrees. One that looks the same
        turned is inverted, unless it is a mask: a plugin may refuse an empty one.
        """
        moved = []
        for subject in self.scene.subjects:
            if subject.box is not None:
                left, top, right, bottom = subject.box
                subject = dataclasses.replace(subject, box=(left / 2, top / 2, right / 2, bottom / 2))
            moved.append(subject)
        prompt = f"{self.scene.prompt} at night"
        return dataclasses.replace(self.scene, prompt=prompt, subjects=tuple(moved)).map_images(_turned)


def _turned(image: SceneImage) -> Image.Image:
    before = open_image(image.source, image.place)
    after = before.transpose(Image.Transpose.ROTATE_180)
    is_mask = "mask" in str(image.keys[-1])
    return after if is_mask or after.tobytes() != before.tobytes() else ImageOps.invert(before.convert("RGB"))


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
