"""Attend-and-Excite (Chefer et al. 2023, arXiv 2301.13826): no subject of the prompt may go unattended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import exp, sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from weft.plugin import (
    MAP_POSITIONS,
    Energy,
    Plugin,
    Refinement,
    Scene,
    Step,
    UserError,
    hookimpl,
    locate,
    record,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from weft.plugin import AttentionMaps, Conditioner, PromptTokens

# the released code sharpens the maps so before it compares the tokens of a position
SHARPNESS = 100.0
# of a map that is nowhere, whose centre would not be finite
FLOOR = 1e-30


@record
class AttendAndExcite(Energy):
    """Moves the latents until every subject of the prompt is attended to somewhere.

    The loss of a sample is the largest, over its subjects, of 1 - the maximum of the subject's smoothed map (section
    3.2, equations 1 and 2). At single-token subjects all numbers are those of the released code, which differs from the
    paper in the kernel and in the schedule of the step size.

    Args:
        scale: of the step size, which is scale * sqrt(1 - i / (2 (n - 1))) at step i of n.
        phrases: what to attend to; the scene's subjects by default.
        words: "together" lets the words of a longer phrase share a position (their probabilities are added up);
            "each" makes every token of it a subject of its own.
        steps: how many steps are altered, from the first on.
        thresholds: by step, the attention that every subject has to reach there before the run goes on.
        updates: at most so many, for a threshold.
        smoothing: "original" is the released kernel exp(-(x / 2 sigma)^2), "gaussian" the textbook's
            exp(-x^2 / 2 sigma^2), both of 3 x 3 positions.
        sigma: in positions of the map.
        separation: factor of a second term of the loss (ours): the sum over pairs of subjects of
            max(0, 1 - d / distance), d being the distance of their centres of attention. These are the centroids of
            Epstein et al. 2023 (arXiv 2306.00986), of the squared maps. A threshold waits for the term too. Without it
            two subjects may both be attended to at one place, and be drawn as one thing.
        distance: beyond which two subjects count as apart, in sides of a square of the image's area.
        positions: the maps are those of the finest size with at most so many positions: by default 16 x 16 of Stable
            Diffusion's 64 x 64 latents, as in the released code. Fewer are coarser, and a gradient costs less.
    """

    name: ClassVar[str] = "attend_and_excite"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 0.0}
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    scale: Annotated[float, Field(ge=0, description="step size; 0 is off")] = 20.0
    phrases: Annotated[tuple[str, ...], Field(description="phrases instead of the scene's subjects")] = ()
    words: Annotated[
        Literal["together", "each"], Field(description="how a phrase of several words counts")
    ] = "together"
    steps: Annotated[int, Field(ge=0, description="steps that are altered")] = 25
    thresholds: Mapping[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=lambda: {0: 0.05, 10: 0.5, 20: 0.8}, description="attention to reach, by step"
    )
    updates: Annotated[int, Field(ge=0, description="refinement updates at a threshold")] = 20
    smoothing: Annotated[Literal["original", "gaussian", "none"], Field(description="kernel of the maps")] = (
        "original"
    )
    sigma: Annotated[float, Field(gt=0, description="width of the kernel, in positions")] = 0.5
    separation: Annotated[float, Field(ge=0, description="weight of keeping subjects apart; 0 is off")] = 0.0
    distance: Annotated[float, Field(gt=0, description="of subjects that are apart, in image sides")] = 0.3
    positions: Annotated[int, Field(ge=1, description="of a map, at most")] = MAP_POSITIONS

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        for scene in scenes:
            if not self.phrases and not scene.subjects:
                raise UserError(
                    f"attend_and_excite, scene '{scene.prompt}'",
                    "a subject",
                    "none",
                    "Name subjects in the scene, or set the field 'phrases'.",
                )
            for phrase in self.phrases:
                try:
                    locate(scene.prompt, phrase)
                except UserError as error:
                    if "occurrence" not in error.expected:
                        raise
                    place = f"attend_and_excite, field 'phrases', '{phrase}'"
                    hint = "Take more words of it, or leave 'phrases' out and name subjects with an 'occurrence'."
                    raise UserError(
                        place, "a phrase that the prompt has once", "more than one", hint
                    ) from None

    def applies(self, step: Step) -> bool:
        return self.scale != 0.0 and step.index < self.steps

    def map_positions(self) -> int:
        return self.positions

    def step_size(self, step: Step) -> float:
        return self.scale * sqrt(1.0 - 0.5 * step.index / max(step.total - 1, 1))

    def refinement(self, step: Step) -> Refinement | None:
        if step.index not in self.thresholds:
            return None
        return Refinement(1.0 - self.thresholds[step.index], self.updates)

    def loss(self, maps: AttentionMaps, step: Step) -> Float[Tensor, " s"]:
        import torch

        mean = maps.mean(maps.grids[0])
        mean = mean.to(torch.promote_types(mean.dtype, torch.float32))
        # the start token draws most of every position's attention, and would win the softmax everywhere
        attention = (SHARPNESS * mean[..., 1:-1]).softmax(dim=-1)
        losses = []
        for chosen, raw, scene, text in zip(attention, mean, maps.scenes, maps.texts, strict=True):
            subjects = self._subjects(scene, text)
            excited = [[token] for one in subjects for token in one] if self.words == "each" else subjects
            smooth = self._smoothed(_sums(chosen, [[token - 1 for token in one] for one in excited]))
            loss = (1.0 - smooth.amax(dim=(1, 2))).relu().amax()
            if self.separation > 0.0:
                loss = loss + self.separation * self._crowding(_sums(raw, subjects))
            losses.append(loss)
        return torch.stack(losses)

    def _subjects(self, scene: Scene, text: PromptTokens) -> list[Sequence[int]]:
        """Every subject's token positions."""
        if self.phrases:
            subjects = [text.find(phrase) for phrase in self.phrases]
        else:
            subjects = [text.positions(subject) for subject in scene.subjects]
        return [positions for positions in subjects if positions]

    def _crowding(self, maps: Float[Tensor, "k h w"]) -> Float[Tensor, ""]:
        """By how much pairs of subjects are nearer to each other than `distance`; 0 where none is."""
        import torch

        height, width = maps.shape[1:]
        side = sqrt(height * width)
        rows, columns = (torch.arange(count).to(maps) / side for count in (height, width))
        # squared, since most of a map's sum is its flat background, which would draw every centre to the image's
        weights = maps.square()
        shares = weights / weights.sum(dim=(1, 2), keepdim=True).clamp(min=FLOOR)
        centres = torch.stack([shares.sum(dim=2) @ rows, shares.sum(dim=1) @ columns], dim=1)  # k 2
        return (1.0 - torch.pdist(centres) / self.distance).relu().sum()

    def _smoothed(self, maps: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
        import torch

        if self.smoothing == "none":
            return maps
        width = 4.0 * self.sigma**2 if self.smoothing == "original" else 2.0 * self.sigma**2
        # the kernel is a product of one for each axis
        rows, columns = (
            torch.tensor(_smoothing(size, width), dtype=maps.dtype, device=maps.device)
            for size in maps.shape[1:]
        )
        return rows @ maps @ columns.T


@cache
def _smoothing(size: int, width: float) -> list[list[float]]:
    """The matrix that smooths an axis with exp(-x^2 / width) over three positions, reflected at its ends."""
    weights = {offset: exp(-(offset**2) / width) for offset in (-1, 0, 1)}
    total = sum(weights.values())
    matrix = [[0.0] * size for _ in range(size)]
    for position in range(size):
        for offset, weight in weights.items():
            # -1 is reflected to 1 and `size` to `size - 2`; an axis of one position has nothing to reflect
            source = (size - 1) - abs((size - 1) - abs(position + offset)) if size > 1 else 0
            matrix[position][source] += weight / total
    return matrix


def _sums(maps: Float[Tensor, "h w t"], groups: Sequence[Sequence[int]]) -> Float[Tensor, "k h w"]:
    """The maps of each group's tokens, added up."""
    import torch

    return torch.stack([maps[..., list(group)].sum(dim=-1) for group in groups])


@hookimpl
def weft_plugins() -> Sequence[type[Plugin]]:
    return [AttendAndExcite]
