"""The sampler: at every step, rewrite the form, evaluate its support in one batch, combine, let the scheduler move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..api.attention_maps import AttentionMaps, Grid
from ..api.branches import Branch, LinearForm
from ..api.guidance import Batch, Energy, Guidance, LatentEdit, Step
from ..errors import PluginError
from .attention_energy import Descent, descend
from .branch_evaluator import BranchEvaluator, guarded
from .scheduler_step import Stepper, Watch
from .schedulers import step_options

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Trace:
    """What one step of a batch did and cost.

    Args:
        step: which one.
        form: the branches that were evaluated, and their coefficients. A coefficient of 0 is a branch that only a
            strategy's `combine` reads.
        evaluations: UNet evaluations of one image; fewer than branches where several came to the same input.
        descents: of every energy that moved the latents before them, in the order of the chain.
    """

    step: Step
    form: LinearForm
    evaluations: int
    descents: tuple[Descent, ...] = ()


class MeanMaps:
    """The full branch's maps of one size, averaged over layers, heads and steps."""

    def __init__(self, paths: frozenset[str]) -> None:
        self.paths = paths
        self.grid: Grid | None = None
        self._sum: Float[Tensor, "s h w t"] | None = None
        self._steps = 0

    def add(self, maps: AttentionMaps) -> None:
        self.grid = maps.grids[0]
        mean = maps.mean(self.grid).float()
        self._sum = mean if self._sum is None else self._sum + mean
        self._steps += 1

    @property
    def mean(self) -> Float[Tensor, "s h w t"] | None:
        return None if self._sum is None else self._sum / self._steps


def sample(
    evaluator: BranchEvaluator,
    batch: Batch,
    guidance: Sequence[Guidance],
    full: Branch,
    noise: Float[Tensor, "s c h w"],
    steps: int,
    energy_paths: Callable[[int], frozenset[str]],
    mean_maps: MeanMaps | None = None,
    on_step: Callable[[Trace], None] | None = None,
    on_update: Callable[[Step, str, int], None] | None = None,
) -> Float[Tensor, "s c h w"]:
    """Denoise a batch of samples.

    Args:
        evaluator: runs the UNet for branches.
        batch: its scenes, its generators, and a scheduler that is used for it only.
        guidance: the chain, applied in order.
        full: the branch with every conditioner present.
        noise: standard normal, one a sample.
        steps: of the scheduler.
        energy_paths: the transformer blocks whose maps have at most so many positions, for the energies to read.
        mean_maps: collects the full branch's maps.
        on_step: called after every step.
        on_update: called after every refinement update with the step, the strategy's name and the update's number.

    Returns:
        Latents, scaled as the VAE's encoder would after its scaling factor.

    Raises:
        PluginError: a strategy raised, broke the sum of 1, or gave something that is not finite.
    """
    scheduler = batch.scheduler
    scheduler.set_timesteps(steps, device=noise.device)
    latents: Tensor = noise * scheduler.init_noise_sigma
    stepper = Stepper(scheduler, step_options(scheduler, list(batch.generators)))
    watch = Watch()
    guidance = [guarded(strategy.name, "begin", partial(strategy.begin, batch)) for strategy in guidance]
    times = scheduler.timesteps.tolist()  # all at once: each alone would wait for a GPU
    for index, (timestep, time) in enumerate(zip(scheduler.timesteps, times, strict=True)):
        step = Step(index, len(times), float(time), full)
        stepper.begin(index)
        for strategy in guidance:
            if isinstance(strategy, LatentEdit):
                latents = _edited(strategy, "before", strategy.before, latents, step)
        inputs = scheduler.scale_model_input(latents, timestep)
        descents: list[Descent] = []
        for strategy in guidance:
            if isinstance(strategy, Energy) and _applies(strategy, step):
                # scale_model_input multiplies by one number a timestep in every scheduler of the list
                factor = scheduler.scale_model_input(torch.ones_like(latents[:1, :1, :1, :1]), timestep)[
                    0, 0, 0, 0
                ]
                told = None if on_update is None else partial(on_update, step, strategy.name)
                paths = energy_paths(
                    guarded(strategy.name, f"map_positions at step {index}", strategy.map_positions)
                )
                latents, descent = descend(strategy, latents, factor, timestep, evaluator, paths, step, told)
                descents.append(descent)
                inputs = scheduler.scale_model_input(latents, timestep)

        form, reads = _forms(guidance, full, step)
        evaluated = form
        for one in (one for forms in reads for one in forms):
            evaluated = evaluated + 0.0 * one
        record = None if mean_maps is None else (full, mean_maps.paths)
        before = evaluator.evaluations
        predictions, maps = evaluator(inputs, timestep, evaluated, record)
        if mean_maps is not None and maps is not None:
            mean_maps.add(maps)

        guided = None
        if any(strategy.combines(step) for strategy in guidance):
            guided = predictions.sum(form)
            for strategy, forms in zip(guidance, reads, strict=True):
                guided = _combined(strategy, guided, [predictions.sum(one) for one in forms], step)
        latents, faults = stepper.step(index, predictions, form, guided, latents)
        for strategy in guidance:
            if isinstance(strategy, LatentEdit):
                latents, faults = _edited(strategy, "edit", strategy.edit, latents, step), None
        watch.add(index, form, latents, faults)
        if on_step is not None:
            on_step(Trace(step, evaluated, evaluator.evaluations - before, tuple(descents)))
    watch.finish()
    return latents


def _applies(strategy: Energy, step: Step) -> bool:
    return guarded(strategy.name, f"applies at step {step.index}", partial(strategy.applies, step))


def _forms(
    guidance: Sequence[Guidance], full: Branch, step: Step
) -> tuple[LinearForm, list[list[LinearForm]]]:
    """The support of the chain's form, and of the forms that each strategy reads."""
    form = LinearForm.of(full)
    reads: list[list[LinearForm]] = []
    for strategy in guidance:
        # with what an earlier strategy reads go the branches of it that this one replaces, for example by switching off
        reads = [[_rewritten(strategy, one, step) for one in forms] for forms in reads]
        place = f"reads at step {step.index}"
        read = guarded(strategy.name, place, partial(strategy.reads, form, step))
        reads.append([_checked(strategy, place, one) for one in read])
        form = _rewritten(strategy, form, step)
    return form.support(), [[one.support() for one in forms] for forms in reads]


def _rewritten(strategy: Guidance, form: LinearForm, step: Step) -> LinearForm:
    place = f"rewrite at step {step.index}"
    return _checked(strategy, place, guarded(strategy.name, place, lambda: strategy.rewrite(form, step)))


def _checked(strategy: Guidance, place: str, form: LinearForm) -> LinearForm:
    if not form.support() or abs(form.total - 1.0) > TOLERANCE:
        raise PluginError(strategy.name, place, f"the coefficients must sum to 1, found {form}")
    return form


def _combined(strategy: Guidance, guided: Tensor, values: Sequence[Tensor], step: Step) -> Tensor:
    place = f"combine at step {step.index}"
    combined = guarded(strategy.name, place, lambda: strategy.combine(guided, values, step))
    return _shaped(strategy, place, combined, guided)


def _edited(
    strategy: LatentEdit, door: str, change: Callable[[Tensor, Step], Tensor], latents: Tensor, step: Step
) -> Tensor:
    place = f"{door} at step {step.index}"
    edited = guarded(strategy.name, place, lambda: change(latents, step))
    return _shaped(strategy, place, edited, latents)


def _shaped(strategy: Guidance, place: str, given: Tensor, like: Tensor) -> Tensor:
    if given.shape != like.shape:
        shapes = f"expected shape {tuple(like.shape)}, found {tuple(given.shape)}"
        raise PluginError(strategy.name, place, shapes)
    return given
