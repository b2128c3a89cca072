"""A chain of guidance strategies: every call of one is guarded, and what it gives back is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..api.attention_maps import AttentionMaps
from ..api.branches import Branch, LinearForm
from ..api.conditioner import Conditioner
from ..api.guidance import Batch, Energy, Guidance, LatentEdit, SecondEvaluation, Step
from ..api.predictions import Predictions
from ..errors import PluginError
from .guarded import guarded

TOLERANCE = 1e-6
MOST_VISITS = 1000
"""A step is taken again at most so often, so that no strategy goes back for ever."""


@dataclass(frozen=True)
class StepForms:
    """What one step evaluates.

    Args:
        form: weighs the predictions.
        reads: of each strategy, the forms whose values its `combine` is given.
        seconds: of each strategy, what is evaluated again at other latents, if anything.
    """

    form: LinearForm
    reads: Sequence[Sequence[LinearForm]]
    seconds: Sequence[LinearForm | None]

    @property
    def evaluated(self) -> LinearForm:
        """The form, and with a coefficient of 0 the branches that are only read."""
        evaluated = self.form
        for one in (one for forms in self.reads for one in forms):
            evaluated = evaluated + 0.0 * one
        return evaluated


@dataclass(frozen=True)
class GuidanceChain:
    """Strategies that are applied in order.

    Raises:
        PluginError: from any method: a strategy raised, broke the sum of 1, or gave another shape.
    """

    strategies: Sequence[Guidance]

    def brought(self) -> dict[str, Conditioner]:
        """The conditioners that strategies bring.

        Raises:
            PluginError: two strategies bring different ones by one name.
        """
        brought: dict[str, Conditioner] = {}
        for strategy in self.strategies:
            for name, conditioner in guarded(strategy.name, "brings", strategy.brings).items():
                if brought.setdefault(name, conditioner) != conditioner:
                    raise PluginError(strategy.name, "brings", f"another strategy brings another '{name}'")
        return brought

    @property
    def by_key(self) -> dict[str, Guidance]:
        """The strategies by keys that no conditioner has, also where two are of one name."""
        return {f"guidance.{number}": strategy for number, strategy in enumerate(self.strategies)}

    def begin(self, batch: Batch, sets: Mapping[str, Sequence[Sequence[int]]] | None = None) -> GuidanceChain:
        """The chain to use for one batch.

        Args:
            batch: what is denoised together.
            sets: the samples that belong together, by key; of others each is alone.
        """
        alone = [(sample,) for sample in range(len(batch.scenes))]
        begun: list[Guidance] = []
        for key, one in self.by_key.items():
            own = replace(batch, sets=(sets or {}).get(key, alone))
            strategy = guarded(one.name, "begin", partial(one.begin, own))
            if not isinstance(strategy, Guidance):
                raise PluginError(one.name, "begin", f"expected a strategy, found {type(strategy).__name__}")
            begun.append(strategy)
        return GuidanceChain(begun)

    def energies(self, step: Step) -> Iterator[Energy]:
        """Those that move the latents at this step; each is asked when it is its turn."""
        for strategy in self.strategies:
            place = f"applies at step {step.index}"
            if isinstance(strategy, Energy) and guarded(
                strategy.name, place, partial(strategy.applies, step)
            ):
                yield strategy

    def forms(self, full: Branch, step: Step) -> StepForms:
        """The support of the chain's form, and of the forms that each strategy reads."""
        form = LinearForm.of(full)
        reads: list[list[LinearForm]] = []
        seconds: list[LinearForm | None] = []
        for strategy in self.strategies:
            # with what an earlier strategy reads go the branches of it that this one replaces, for example by
            # switching off
            reads = [[_rewritten(strategy, one, step) for one in forms] for forms in reads]
            reads.append(_read(strategy, form, step))
            seconds = [one and _rewritten(strategy, one, step) for one in seconds]
            seconds.append(_second(strategy, form, step))
            form = _rewritten(strategy, form, step)
        return StepForms(
            form.support(),
            [[one.support() for one in forms] for forms in reads],
            [one and one.support() for one in seconds],
        )

    def self_map_paths(self, number: int) -> frozenset[str]:
        """The blocks whose self-attention maps the strategy of this number reads for its second evaluation."""
        strategy = self.strategies[number]
        assert isinstance(strategy, SecondEvaluation)
        return guarded(strategy.name, "self_map_paths", strategy.self_map_paths)

    def second_latents(
        self,
        number: int,
        latents: Float[Tensor, "s c h w"],
        values: Sequence[Float[Tensor, "s c h w"]],
        maps: AttentionMaps,
        step: Step,
    ) -> Float[Tensor, "s c h w"]:
        """The latents of the second evaluation of the strategy of this number."""
        strategy, place = self.strategies[number], f"latents at step {step.index}"
        assert isinstance(strategy, SecondEvaluation)
        other = guarded(strategy.name, place, lambda: strategy.latents(latents, values, maps, step))
        return _shaped(strategy, place, other, latents)

    def combine(
        self,
        predictions: Predictions,
        forms: StepForms,
        step: Step,
        seconds: Mapping[int, Float[Tensor, "s c h w"]] | None = None,
    ) -> Float[Tensor, "s c h w"] | None:
        """The prediction, where a strategy makes it of the sum; None where the sum is the prediction.

        Args:
            predictions: of the branches.
            forms: of the step.
            step: where the sampler is.
            seconds: by number, the value of a strategy's second evaluation.
        """
        if not any(strategy.combines(step) for strategy in self.strategies):
            return None
        place = f"combine at step {step.index}"
        guided = predictions.sum(forms.form)
        for number, (strategy, reads) in enumerate(zip(self.strategies, forms.reads, strict=True)):
            values = [predictions.sum(one) for one in reads]
            if seconds and number in seconds:
                values.append(seconds[number])
            combined = guarded(strategy.name, place, partial(strategy.combine, guided, values, step))
            guided = _shaped(strategy, place, combined, guided)
        return guided

    @property
    def travels(self) -> Guidance | None:
        """The first strategy that may travel back; None where none does."""
        return next(
            (one for one in self.strategies if type(one).travel_back is not Guidance.travel_back), None
        )

    def travel_back(self, step: Step, most: int) -> int:
        """How many steps to go back after this one, at most so many."""
        longest = 0
        for strategy in self.strategies:
            place = f"travel_back at step {step.index}"
            back = guarded(strategy.name, place, partial(strategy.travel_back, step))
            if not isinstance(back, int) or not 0 <= back <= most or (back and step.visit >= MOST_VISITS):
                found = f"expected 0 to {most}, and an end after {MOST_VISITS} visits, found {back!r}"
                raise PluginError(strategy.name, place, found)
            longest = max(longest, back)
        return longest

    def before(self, latents: Float[Tensor, "s c h w"], step: Step) -> Float[Tensor, "s c h w"]:
        """The latents to begin a step with."""
        for strategy in self._edits():
            latents = _edited(strategy, "before", strategy.before, latents, step)
        return latents

    def after(self, latents: Float[Tensor, "s c h w"], step: Step) -> Float[Tensor, "s c h w"]:
        """The latents to go on with after a step; the very same tensor where no strategy edits them."""
        for strategy in self._edits():
            latents = _edited(strategy, "edit", strategy.edit, latents, step)
        return latents

    def _edits(self) -> list[LatentEdit]:
        return [strategy for strategy in self.strategies if isinstance(strategy, LatentEdit)]

    @property
    def edits(self) -> bool:
        """Whether a strategy edits latents."""
        return bool(self._edits())


def _rewritten(strategy: Guidance, form: LinearForm, step: Step) -> LinearForm:
    place = f"rewrite at step {step.index}"
    return _checked(strategy, place, guarded(strategy.name, place, lambda: strategy.rewrite(form, step)))


def _read(strategy: Guidance, form: LinearForm, step: Step) -> list[LinearForm]:
    place = f"reads at step {step.index}"
    read = guarded(strategy.name, place, lambda: tuple(strategy.reads(form, step)))
    return [_checked(strategy, place, one) for one in read]


def _second(strategy: Guidance, form: LinearForm, step: Step) -> LinearForm | None:
    if not isinstance(strategy, SecondEvaluation):
        return None
    place = f"evaluates at step {step.index}"
    second = guarded(strategy.name, place, partial(strategy.evaluates, form, step))
    return None if second is None else _checked(strategy, place, second)


def _checked(strategy: Guidance, place: str, form: Any) -> LinearForm:
    if not isinstance(form, LinearForm):
        raise PluginError(strategy.name, place, f"expected a LinearForm, found {type(form).__name__}")
    if not form.support() or abs(form.total - 1.0) > TOLERANCE:
        raise PluginError(strategy.name, place, f"the coefficients must sum to 1, found {form}")
    return form


def _edited(
    strategy: LatentEdit, method: str, edit: Callable[[Tensor, Step], Tensor], latents: Tensor, step: Step
) -> Tensor:
    place = f"{method} at step {step.index}"
    return _shaped(strategy, place, guarded(strategy.name, place, partial(edit, latents, step)), latents)


def _shaped(strategy: Guidance, place: str, tensor: Any, like: Tensor) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise PluginError(strategy.name, place, f"expected a tensor, found {type(tensor).__name__}")
    if tensor.shape != like.shape or tensor.device != like.device:
        wanted, came = (f"shape {tuple(one.shape)} on {one.device}" for one in (like, tensor))
        raise PluginError(strategy.name, place, f"expected {wanted}, found {came}")
    return tensor
