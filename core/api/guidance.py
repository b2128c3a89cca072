"""Guidance strategies: how predictions are combined and how latents are moved. They never touch the UNet.

A chain of strategies is applied in order at every step. A strategy may rewrite the linear form (`Guidance.rewrite`),
change the sum of the predictions (`Guidance.reads` and `Guidance.combine`), descend an energy of the attention maps
(`Energy`), edit the latents before or after the scheduler's step (`LatentEdit`) or have a form evaluated once more at
other latents (`SecondEvaluation`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..errors import UserError, did_you_mean
from ..scene.record import record
from .branches import LinearForm
from .plugin import Plugin
from .step import Step as Step

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

    from ..scene.scene import Scene
    from .attention_maps import AttentionKind, AttentionMaps
    from .conditioner import Conditioner
    from .model_view import ModelView
    from .schedulers import Scheduler

# maps are kept at the finest size with at most this many positions: 16 x 16 of SD1.5's 64 x 64 latents, and a half more
# for images that are not square; where there is none, at the coarsest: 24 x 24 of 96 x 96 latents
MAP_POSITIONS = 384


DEFAULT_GUIDANCE = ("classifier_free",)
"""The chain of a generation that names none: a promise of the public API, and the one name of a plugin in the core."""


@dataclass(frozen=True)
class Batch:
    """What is denoised together, for `Guidance.begin`.

    Args:
        scenes: one per sample.
        model: the model, and the size of the image.
        scheduler: its timesteps are set.
        generators: one per sample; a strategy that needs noise draws it from these, so that a seed means the same image
            alone and in a batch.
        sets: samples that belong together: those of a scene's companions (`Plugin.companions` of this strategy), in its
            order, and last the scene's own; every sample is in one set, most often alone.
    """

    scenes: Sequence[Scene]
    model: ModelView
    scheduler: Scheduler
    generators: Sequence[torch.Generator]
    sets: Sequence[Sequence[int]] = ()

    def noise(self, like: Float[Tensor, "s c h w"]) -> Float[Tensor, "s c h w"]:
        """Standard normal noise, each sample's from its own generator."""
        import torch

        drawn = [
            torch.randn(like.shape[1:], generator=generator, dtype=torch.float32)
            for generator in self.generators
        ]
        return torch.stack(drawn).to(like)

    def noised(
        self, clean: Float[Tensor, "s c h w"], noise: Float[Tensor, "s c h w"], step: Step
    ) -> Float[Tensor, "s c h w"]:
        """Clean latents with the noise of a step, as they are when it begins."""
        return self.scheduler.add_noise(clean, noise, self.scheduler.timesteps[step.index][None])

    def estimates(
        self, latents: Float[Tensor, "s c h w"], prediction: Float[Tensor, "s c h w"], step: Step
    ) -> tuple[Float[Tensor, "s c h w"], Float[Tensor, "s c h w"]]:
        """The clean latents and the noise that a prediction stands for: ``noised(clean, noise, step)`` is ``latents``.

        Args:
            latents: at the beginning of the step, before the scheduler's scaling.
            prediction: of them; noise, clean latents or velocity, as the model was trained.
        """
        import torch

        # in float32, in which schedulers hold their noise levels
        one = torch.ones(1, 1, 1, 1, dtype=torch.float32, device=latents.device)
        clean_share, noise_share = (
            self.noised(*parts, step).to(latents) for parts in ((one, one * 0.0), (one * 0.0, one))
        )
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return (latents - noise_share * prediction) / clean_share, prediction
        if kind == "sample":
            return prediction, (latents - clean_share * prediction) / noise_share
        # velocity, of latents of variance 1 (Salimans and Ho 2022, arXiv 2202.00512, appendix D)
        length = (clean_share.square() + noise_share.square()).sqrt()
        latents, clean_share, noise_share = latents / length, clean_share / length, noise_share / length
        return (
            clean_share * latents - noise_share * prediction,
            clean_share * prediction + noise_share * latents,
        )


@record
class Guidance(Plugin):
    """Base of every guidance strategy. A method that is not overridden changes nothing."""

    kind: ClassVar[Literal["conditioner", "guidance"]] = "guidance"

    def begin(self, batch: Batch) -> Guidance:
        """The strategy to use for one batch, from its first step to its last.

        One that remembers something from step to step, such as a momentum, or that reads the batch's scenes, returns a
        new object that holds it, so that nothing passes from one generation to the next. The others return themselves.
        """
        return self

    def brings(self) -> Mapping[str, Conditioner]:
        """Conditioners of the strategy's own, by a name in branches that no other plugin has.

        They are absent in the full branch, and present in the branches that `rewrite` adds them to (`Branch.adding`).
        Two strategies may bring equal ones by one name.
        """
        return {}

    def check(self, scenes: Sequence[Scene], conditioners: Mapping[str, Conditioner]) -> None:
        """Refuse a run that the strategy cannot serve; called once, before anything is drawn.

        Args:
            scenes: what will be drawn.
            conditioners: of the run, by their names in branches; one of strength 0 is among them.

        Raises:
            UserError: a scene or the choice of conditioners does not suit this strategy.
        """

    def rewrite(self, form: LinearForm, step: Step) -> LinearForm:
        """The form to use at this step, given the form so far. Its coefficients must still sum to 1."""
        return form

    def reads(self, form: LinearForm, step: Step) -> Sequence[LinearForm]:
        """The forms whose values `combine` wants at this step, given the form that `rewrite` is given.

        Later strategies rewrite these forms too, and the UNet evaluates whatever of them the chain's own form lacks.
        """
        return ()

    def combines(self, step: Step) -> bool:
        """Whether `combine` does anything at this step; where no strategy's does, sum and step are one operation."""
        return type(self).combine is not Guidance.combine

    def combine(
        self, guided: Float[Tensor, "s c h w"], values: Sequence[Float[Tensor, "s c h w"]], step: Step
    ) -> Float[Tensor, "s c h w"]:
        """A function of the summed prediction and of its parts, for what is not linear.

        Args:
            guided: the sum so far.
            values: of the forms that `reads` named, in its order.
            step: where the sampler is.
        """
        return guided

    def travel_back(self, step: Step) -> int:
        """How many steps to go back after this one, with the noise that they took away drawn anew; 0 for none.

        1 repeats the step. A step that is taken again has a higher `Step.visit`, by which the strategy knows when to
        go on (Lugmayr et al. 2022, RePaint, arXiv 2201.09865, algorithm 1; Bansal et al. 2023, Universal Guidance,
        arXiv 2302.07121, section 3.3). Where several strategies ask, the longest way is taken.
        """
        return 0


def require_conditioners(names: Iterable[str], conditioners: Mapping[str, Conditioner], place: str) -> None:
    """For `Guidance.check`: refuse a name that no conditioner of the run has.

    Raises:
        UserError: at ``place``, with the names that there are.
    """
    for name in names:
        if name not in conditioners:
            there = ", ".join(conditioners) or "it has none"
            hint = did_you_mean(name, conditioners)
            raise UserError(place, f"a conditioner of the run ({there})", f"'{name}'", hint)


@record
class Energy(Guidance):
    """A strategy that moves the latents down the gradient of a scalar of the attention maps, before the UNet call.

    The sampler owns the gradient, the early exit after the last layer that is needed, and the refinement loop.
    """

    @abstractmethod
    def applies(self, step: Step) -> bool:
        """Whether the latents are moved at this step at all."""

    @abstractmethod
    def loss(self, maps: AttentionMaps, step: Step) -> Float[Tensor, " s"]:
        """One scalar a sample, differentiable with respect to the maps."""

    @abstractmethod
    def step_size(self, step: Step) -> float:
        """Factor of the gradient."""

    def map_positions(self) -> int:
        """The maps to read are those of the finest size that has at most so many positions."""
        return MAP_POSITIONS

    def map_kinds(self) -> frozenset[AttentionKind]:
        """Which maps to read: of "cross"-attention, of "self"-attention, or both."""
        return frozenset({"cross"})

    def refinement(self, step: Step) -> Refinement | None:
        """Updates to repeat before the ordinary one at this step; None for none."""
        return None


@dataclass(frozen=True)
class Refinement:
    """Repeat the update for every sample whose loss is above ``target``, at most ``updates`` times.

    As in the released code of Attend-and-Excite, a sample that starts above the target makes at least two updates, and
    one more after the update that reached the target, before the ordinary one.
    """

    target: float
    updates: int


@record
class SecondEvaluation(Guidance):
    """A strategy that has a form evaluated a second time within a step, at other latents.

    `combine` is given the form's value there as the last of its values, after those of `reads`.
    """

    @abstractmethod
    def evaluates(self, form: LinearForm, step: Step) -> LinearForm | None:
        """What to evaluate at the other latents, given the form that `rewrite` is given; None for nothing.

        Later strategies rewrite it too.
        """

    @abstractmethod
    def latents(
        self,
        latents: Float[Tensor, "s c h w"],
        values: Sequence[Float[Tensor, "s c h w"]],
        maps: AttentionMaps,
        step: Step,
    ) -> Float[Tensor, "s c h w"]:
        """The other latents, before the scheduler's scaling.

        Args:
            latents: of the step, before the scheduler's scaling.
            values: of the forms that `reads` named, in its order.
            maps: of `self_map_paths`, in the branch that weighs most in the first of these forms.
            step: where the sampler is.
        """

    def self_map_paths(self) -> frozenset[str]:
        """The transformer blocks whose self-attention maps `latents` reads."""
        return frozenset()


@record
class LatentEdit(Guidance):
    """A strategy that edits the latents before a step, after it, or both."""

    def before(self, latents: Float[Tensor, "s c h w"], step: Step) -> Float[Tensor, "s c h w"]:
        """The latents to begin a step with, before energies move them and the UNet reads them."""
        return latents

    def edit(self, latents: Float[Tensor, "s c h w"], step: Step) -> Float[Tensor, "s c h w"]:
        """The latents to go on with after the scheduler's step."""
        return latents
