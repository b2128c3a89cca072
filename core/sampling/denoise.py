"""The sampler: at every step, rewrite the form, evaluate its support in one batch, combine, let the scheduler move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..api.attention_maps import AttentionMaps
from ..api.branches import Branch, LinearForm
from ..api.guidance import Batch, Step
from ..api.predictions import Predictions
from .attention_energy import EnergyDescent
from .branch_evaluator import BranchEvaluator, MapRequest
from .events import Events, State
from .guarded import guarded
from .guidance_chain import GuidanceChain, StepForms
from .noise_levels import clean_latents, levels, noisier
from .scheduler_choice import SchedulerChoice
from .scheduler_step import Stepper, Watch
from .start import Start
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
        choice: how the scheduler was chosen.
        chain: the guidance strategies.
        full: the branch with every conditioner present.
        map_paths: the transformer blocks whose maps have at most so many positions.
        sets: by plugin, the samples that belong together; of others each is alone.
        recorded: the blocks whose maps of the full branch are averaged; none by default.
        events: hears of every step and every refinement update.
    """

    evaluator: BranchEvaluator
    batch: Batch
    choice: SchedulerChoice
    chain: GuidanceChain
    full: Branch
    map_paths: Callable[[int], frozenset[str]]
    sets: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    events: Events = field(default_factory=Events)

    def run(self, start: Start, steps: int) -> Denoised:
        """Denoise.

        Args:
            start: what the latents are at first, and which steps are taken.
            steps: of the scheduler.

        Raises:
            PluginError: a strategy raised, broke the sum of 1, or gave something that is not finite.
        """
        scheduler, device = self.batch.scheduler, start.latents.device
        self.choice.set_timesteps(scheduler, steps, device)
        times = scheduler.timesteps.tolist()  # all at once: each alone would wait for a GPU
        calls, travels = start.calls(scheduler, steps), self.chain.travels
        noise_levels = levels(scheduler, travels.name) if travels is not None else []
        stepper, watch = Stepper(scheduler, self.batch.generators, self.choice.for_step), Watch()
        if calls.start:
            stepper.start(calls.start)
        latents = start.begun(scheduler, calls.start)
        chain = self.chain.begin(self.batch, self.sets)
        maps, trace, visits = MeanMaps(), [], Counter[int]()
        index = calls.start
        while index < calls.stop:
            step = Step(index, len(times), float(times[index]), self.full, visits[index])
            visits[index] += 1
            timestep = scheduler.timesteps[index]
            stepper.begin(index)
            latents = chain.before(latents, step)
            latents, descents = self._descend(chain, latents, timestep, step)
            forms = chain.forms(self.full, step)
            evaluations = self.evaluator.evaluations
            scale = self._scale(latents, timestep) if self.events.previews else None
            inputs = scheduler.scale_model_input(latents, timestep)
            predictions, recorded, own_maps = self._predict(chain, forms, inputs, timestep, step)
            maps.add(recorded)
            seconds = self._second(chain, forms, predictions, own_maps, latents, timestep, step)
            guided = chain.combine(predictions, forms, step, seconds)
            latents, faults = stepper.step(index, predictions, forms.form, guided, latents)
            latents = chain.after(latents, step)
            watch.add(index, forms.form, latents, None if chain.edits else faults)
            evaluations = self.evaluator.evaluations - evaluations
            named = ((chain.strategies[number].name, forms.seconds[number]) for number in seconds)
            again = tuple((name, form) for name, form in named if form is not None)
            trace.append(Trace(step, forms.evaluated, evaluations, descents, again))
            clean = partial(self._clean, index, scale, predictions, forms.form, guided, inputs)
            self.events.step_finished(trace[-1], State(latents, clean))
            index += 1
            if travels is not None and (back := chain.travel_back(step, index - calls.start)):
                now, then = noise_levels[index], noise_levels[index - back]
                latents = noisier(latents, self.batch.noise(latents), now, then)
                index -= back
                self.choice.set_timesteps(scheduler, steps, device)
                stepper.start(index)
        watch.finish()
        return Denoised(latents, maps.mean, tuple(trace))

    def _scale(self, latents: Tensor, timestep: Tensor) -> Float[Tensor, ""]:
        """What the scheduler's scaling of the model's input multiplies by: one number a timestep in every scheduler."""
        one = torch.ones_like(latents[:1, :1, :1, :1])
        return self.batch.scheduler.scale_model_input(one, timestep)[0, 0, 0, 0]

    def _clean(
        self,
        index: int,
        scale: Tensor | None,
        predictions: Predictions,
        form: LinearForm,
        guided: Tensor | None,
        inputs: Tensor,
    ) -> Tensor | None:
        if scale is None:
            return None
        guided = predictions.sum(form) if guided is None else guided
        return clean_latents(self.batch.scheduler, index, float(scale), guided, inputs)

    def _descend(
        self, chain: GuidanceChain, latents: Tensor, timestep: Tensor, step: Step
    ) -> tuple[Tensor, tuple[Descent, ...]]:
        descents = []
        for energy in chain.energies(step):
            scale = self._scale(latents, timestep)
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
        self, chain: GuidanceChain, forms: StepForms, inputs: Tensor, timestep: Tensor, step: Step
    ) -> tuple[Predictions, AttentionMaps | None, dict[int, AttentionMaps | None]]:
        """The predictions, the full branch's maps, and those that second evaluations read, by strategy."""
        requests = [MapRequest(self.full, self.recorded)] if self.recorded else []
        numbers = [number for number, form in enumerate(forms.seconds) if form is not None]
        for number in numbers:
            form = (*forms.reads[number], forms.form)[0]
            heaviest = max(form, key=lambda branch: abs(form[branch]))
            requests.append(MapRequest(heaviest, self_paths=chain.self_map_paths(number)))
        predictions, maps = self.evaluator(inputs, timestep, step, forms.evaluated, requests)
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
            values[number] = self.evaluator(inputs, timestep, step, form)[0].sum(form)
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
