"""The sampler: at every step, rewrite the form, evaluate its support in one batch, combine, let the scheduler move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..api.attention_maps import AttentionMaps
from ..api.branches import Branch
from ..api.guidance import Batch, Step
from ..api.predictions import Predictions
from .attention_energy import EnergyDescent
from .branch_evaluator import BranchEvaluator, MapRequest
from .events import Events
from .guarded import guarded
from .guidance_chain import GuidanceChain, StepForms
from .scheduler_step import Stepper, Watch
from .trace import Descent, Trace


@dataclass(frozen=True)
class Denoised:
    """What came of a batch.

    Args:
        latents: scaled as the VAE's encoder would after its scaling factor.
        maps: the full branch's maps of one size, averaged over layers, heads and steps; None where none were recorded.
        trace: every step.
    """

    latents: Float[Tensor, "s c h w"]
    maps: Float[Tensor, "s _h _w t"] | None
    trace: tuple[Trace, ...]


@dataclass(frozen=True)
class Denoising:
    """One batch on its way from noise to latents.

    Args:
        evaluator: runs the UNet for branches.
        batch: its scenes, its generators, and a scheduler that is used for it only.
        chain: the guidance strategies.
        full: the branch with every conditioner present.
        map_paths: the transformer blocks whose maps have at most so many positions.
        sets: by plugin, the samples that belong together; of others each is alone.
        recorded: the blocks whose maps of the full branch are averaged; none by default.
        events: hears of every step and every refinement update.
    """

    evaluator: BranchEvaluator
    batch: Batch
    chain: GuidanceChain
    full: Branch
    map_paths: Callable[[int], frozenset[str]]
    sets: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    events: Events = field(default_factory=Events)

    def run(self, noise: Float[Tensor, "s c h w"], steps: int) -> Denoised:
        """Denoise.

        Args:
            noise: standard normal, one per sample.
            steps: of the scheduler.

        Raises:
            PluginError: a strategy raised, broke the sum of 1, or gave something that is not finite.
        """
        scheduler = self.batch.scheduler
        scheduler.set_timesteps(steps, device=noise.device)
        latents = noise * scheduler.init_noise_sigma
        stepper, watch = Stepper(scheduler, self.batch.generators), Watch()
        chain = self.chain.begin(self.batch, self.sets)
        maps, trace = MeanMaps(), []
        for step, timestep in self._steps():
            stepper.begin(step.index)
            latents = chain.before(latents, step)
            latents, descents = self._descend(chain, latents, timestep, step)
            forms = chain.forms(self.full, step)
            evaluations = self.evaluator.evaluations
            predictions, recorded, own_maps = self._predict(chain, forms, latents, timestep, step)
            maps.add(recorded)
            seconds = self._second(chain, forms, predictions, own_maps, latents, timestep, step)
            guided = chain.combine(predictions, forms, step, seconds)
            latents, faults = stepper.step(step.index, predictions, forms.form, guided, latents)
            latents = chain.after(latents, step)
            watch.add(step.index, forms.form, latents, None if chain.edits else faults)
            evaluations = self.evaluator.evaluations - evaluations
            named = ((chain.strategies[number].name, forms.seconds[number]) for number in seconds)
            again = tuple((name, form) for name, form in named if form is not None)
            trace.append(Trace(step, forms.evaluated, evaluations, descents, again))
            self.events.step_finished(trace[-1])
        watch.finish()
        return Denoised(latents, maps.mean, tuple(trace))

    def _steps(self) -> Iterator[tuple[Step, Tensor]]:
        timesteps = self.batch.scheduler.timesteps
        times = timesteps.tolist()  # all at once: each alone would wait for a GPU
        for index, (timestep, time) in enumerate(zip(timesteps, times, strict=True)):
            yield Step(index, len(times), float(time), self.full), timestep

    def _descend(
        self, chain: GuidanceChain, latents: Tensor, timestep: Tensor, step: Step
    ) -> tuple[Tensor, tuple[Descent, ...]]:
        descents = []
        for energy in chain.energies(step):
            # scale_model_input multiplies by one number a timestep in every scheduler of the list
            one = torch.ones_like(latents[:1, :1, :1, :1])
            scale = self.batch.scheduler.scale_model_input(one, timestep)[0, 0, 0, 0]
            positions = guarded(energy.name, f"map_positions at step {step.index}", energy.map_positions)
            kinds = guarded(energy.name, f"map_kinds at step {step.index}", energy.map_kinds)
            paths = self.map_paths(positions)
            request = MapRequest(
                self.full,
                paths if "cross" in kinds else frozenset(),
                paths if "self" in kinds else frozenset(),
            )
            descent = EnergyDescent(energy, self.evaluator, request, step, timestep, scale, self.events)
            latents, done = descent.run(latents)
            descents.append(done)
        return latents, tuple(descents)

    def _predict(
        self, chain: GuidanceChain, forms: StepForms, latents: Tensor, timestep: Tensor, step: Step
    ) -> tuple[Predictions, AttentionMaps | None, dict[int, AttentionMaps | None]]:
        """The predictions, the full branch's maps, and those that second evaluations read, by strategy."""
        inputs = self.batch.scheduler.scale_model_input(latents, timestep)
        requests = [MapRequest(self.full, self.recorded)] if self.recorded else []
        numbers = [number for number, form in enumerate(forms.seconds) if form is not None]
        for number in numbers:
            form = (*forms.reads[number], forms.form)[0]
            heaviest = max(form, key=lambda branch: abs(form[branch]))
            requests.append(MapRequest(heaviest, self_paths=chain.self_map_paths(number)))
        predictions, maps = self.evaluator(inputs, timestep, forms.evaluated, requests, step)
        recorded = maps.pop(0) if self.recorded else None
        return predictions, recorded, dict(zip(numbers, maps, strict=True))

    def _second(
        self,
        chain: GuidanceChain,
        forms: StepForms,
        predictions: Predictions,
        maps: Mapping[int, AttentionMaps | None],
        latents: Tensor,
        timestep: Tensor,
        step: Step,
    ) -> dict[int, Tensor]:
        """The value of every second evaluation, by strategy."""
        values: dict[int, Tensor] = {}
        for number, own in maps.items():
            form, read = forms.seconds[number], [predictions.sum(one) for one in forms.reads[number]]
            assert form is not None
            assert own is not None
            other = chain.second_latents(number, latents, read, own, step)
            inputs = self.batch.scheduler.scale_model_input(other, timestep)
            values[number] = self.evaluator(inputs, timestep, form, step=step)[0].sum(form)
        return values


class MeanMaps:
    """Maps of one size, averaged over layers, heads and steps."""

    def __init__(self) -> None:
        self._sum: Float[Tensor, "s h w t"] | None = None
        self._steps = 0

    def add(self, maps: AttentionMaps | None) -> None:
        """A step's maps; None where the branch was not evaluated."""
        if maps is not None:
            mean = maps.mean(maps.grids[0]).float()
            self._sum = mean if self._sum is None else self._sum + mean
            self._steps += 1

    @property
    def mean(self) -> Float[Tensor, "s h w t"] | None:
        return None if self._sum is None else self._sum / self._steps
