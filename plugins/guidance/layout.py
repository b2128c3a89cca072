"""Layout guidance without training (Chen, Laina and Vedaldi 2023, arXiv 2304.03373, backward guidance)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from weft.plugin import Energy, Plugin, Refinement, Scene, Step, Subject, UserError, hookimpl, record

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from weft.plugin import AttentionMaps, Conditioner


@record
class Layout(Energy):
    """Moves the latents until the attention to every subject lies inside its box or mask.

    The energy of a sample is the mean over subjects, their tokens, layers and heads of
    (1 - sum of the map inside / sum of the map)^2 (section 3.3, equation 2).

    Args:
        scale: of the step size: the released code's loss scale. Its factor sigma^2 is 1 - alpha_bar in latents of the
            model's own scale, 0.96 to 1 over the first fifth of the steps, and is left out.
        phrases: phrases of the scene's subjects to hold in place; every subject with a box or a mask by default.
        steps: how many steps are altered, from the first on.
        threshold: the energy at which a sample is left alone.
        updates: at most so many a step.
    """

    name: ClassVar[str] = "layout"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 0.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset({"subjects.box", "subjects.mask"})

    scale: Annotated[float, Field(ge=0, description="step size; 0 is off")] = 30.0
    phrases: Annotated[tuple[str, ...], Field(description="subjects to hold in place; all by default")] = ()
    steps: Annotated[int, Field(ge=0, description="steps that are altered")] = 10
    threshold: Annotated[float, Field(ge=0, le=1, description="energy at which a sample is left alone")] = 0.2
    updates: Annotated[int, Field(ge=1, description="updates a step, at most")] = 5

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        for scene in scenes:
            for phrase in self.phrases:
                scene.subject(phrase)
            if not self._placed(scene):
                wanted = " or ".join(f"'{phrase}'" for phrase in self.phrases)
                raise UserError(
                    f"layout, scene '{scene.prompt}'",
                    f"a box or a mask of {wanted or 'a subject'}",
                    "none",
                    "Set 'box' or 'mask' in a subject.",
                )

    def applies(self, step: Step) -> bool:
        return self.scale != 0.0 and step.index < self.steps

    def step_size(self, step: Step) -> float:
        return self.scale

    def refinement(self, step: Step) -> Refinement | None:
        # a sample at its threshold has no gradient, so the ordinary update counts as the last of these
        return Refinement(0.0, self.updates - 1)

    def loss(self, maps: AttentionMaps, step: Step) -> Float[Tensor, " s"]:
        """What the energy is above the threshold; nothing below, and so no gradient."""
        import torch

        energies = [self._energy(maps, sample) for sample in range(len(maps.scenes))]
        return (torch.stack(energies) - self.threshold).relu()

    def _energy(self, maps: AttentionMaps, sample: int) -> Float[Tensor, ""]:
        import torch

        from weft.plugin import resize

        scene, text = maps.scenes[sample], maps.texts[sample]
        terms = []
        for number, subject in self._placed(scene):
            region, positions = maps.region(sample, number), text.positions(subject)
            assert region is not None
            assert positions
            by_layer = []
            for site, probabilities in maps.by_site.items():
                attention = probabilities[sample][..., list(positions)]  # heads n t
                attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
                inside = resize(region[None], site.grid).flatten().to(attention)
                share = (attention * inside[:, None]).sum(dim=1) / attention.sum(dim=1)  # heads t
                by_layer.append((1.0 - share).square().mean())
            terms.append(torch.stack(by_layer).mean())
        return torch.stack(terms).mean()

    def _placed(self, scene: Scene) -> list[tuple[int, Subject]]:
        """The subjects that are held in place, with their numbers in the scene."""
        return [
            (number, subject)
            for number, subject in enumerate(scene.subjects)
            if (subject.box is not None or subject.mask is not None)
            and (not self.phrases or subject.phrase in self.phrases)
        ]


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [Layout]
