"""A guidance strategy for Weft: an energy that puts the middle of a subject at a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from weft import plugin

if TYPE_CHECKING:
    from torch import Tensor

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


@plugin.record
class AttentionCentre(plugin.Energy):
    """Moves the latents until the centre of mass of a subject's attention is at a point.

    The energy is the squared distance, in fractions of the image, between the point and the centre of mass
    of the mean cross-attention of the subject's words.

    Args:
        phrase: of one of the scene's subjects; the first by default.
        at: the point (x, y) in fractions of the image, from the upper left corner.
        scale: step size; 0 is off.
        steps: how many steps are altered, from the first on.
    """

    name = "attention_centre"
    neutral: ClassVar = {"scale": 0.0}
    scene_fields = frozenset()

    phrase: str | None = None
    at: tuple[Fraction, Fraction] = (0.5, 0.5)
    scale: Annotated[float, Field(ge=0.0)] = 100.0
    steps: Annotated[int, Field(ge=0)] = 10

    def check(self, scenes: Sequence[plugin.Scene], conditioners: Mapping[str, plugin.Conditioner]) -> None:
        for scene in scenes:
            self._subject(scene)

    def applies(self, step: plugin.Step) -> bool:
        return self.scale != 0.0 and step.index < self.steps

    def step_size(self, step: plugin.Step) -> float:
        return self.scale

    def loss(self, maps: plugin.AttentionMaps, step: plugin.Step) -> Tensor:
        import torch

        mean = maps.mean(maps.grids[0])  # s h w t
        height, width = mean.shape[1:3]
        x = (torch.arange(width).to(mean) + 0.5) / width
        y = (torch.arange(height).to(mean) + 0.5) / height
        energies = []
        for sample, (scene, text) in enumerate(zip(maps.scenes, maps.texts, strict=True)):
            positions = text.positions(self._subject(scene))
            if positions is None:  # cut off behind the last token
                energies.append(mean[sample].sum() * 0.0)
                continue
            share = mean[sample][..., list(positions)].mean(-1)  # h w
            share = share / share.sum()
            centre = (share.sum(0) @ x, share.sum(1) @ y)
            energies.append((centre[0] - self.at[0]) ** 2 + (centre[1] - self.at[1]) ** 2)
        return torch.stack(energies)

    def _subject(self, scene: plugin.Scene) -> plugin.Subject:
        if self.phrase is not None:
            return scene.subject(self.phrase)
        if not scene.subjects:
            raise plugin.UserError(self.name, "a scene with a subject", "none in the scene")
        return scene.subjects[0]


@plugin.hookimpl
def weft_plugins() -> list[type[plugin.Plugin]]:
    return [AttentionCentre]
