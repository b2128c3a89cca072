"""Descending an energy of the attention maps before a step: gradient, refinement, a stop for every sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from ..api.guidance import Energy, Step
from ..errors import PluginError
from .branch_evaluator import BranchEvaluator, MapRequest
from .events import Events
from .guarded import guarded
from .trace import Descent


@dataclass(frozen=True)
class EnergyDescent:
    """Moves the latents of every sample down the gradient of its own loss, before one step.

    The gradient is taken, and the step is made, at the scale at which the UNet reads the latents, so that a step size
    means the same under every scheduler.

    Args:
        energy: gives the loss, the step size and the refinement.
        evaluator: records the full branch's maps.
        request: the maps that the energy reads.
        step: where the sampler is.
        timestep: of the step.
        scale: the scheduler's scaling of the model's input at this timestep.
        events: hears of every refinement update.
    """

    energy: Energy
    evaluator: BranchEvaluator
    request: MapRequest
    step: Step
    timestep: Num[Tensor, ""]
    scale: Float[Tensor, ""]
    events: Events = field(default_factory=Events)

    def run(self, latents: Float[Tensor, "s c h w"]) -> tuple[Float[Tensor, "s c h w"], Descent]:
        """The moved latents, and what was done.

        Args:
            latents: before the scheduler's scaling.

        Raises:
            PluginError: the loss is not one finite number per sample.
        """
        step, energy = self.step, self.energy
        size = guarded(energy.name, f"step_size at step {step.index}", partial(energy.step_size, step))
        refinement = guarded(
            energy.name, f"refinement at step {step.index}", partial(energy.refinement, step)
        )
        inputs = latents * self.scale
        loss, gradient = self._gradient(inputs)
        losses = [loss.tolist()]
        updates = torch.zeros_like(loss, dtype=torch.long)
        if refinement is not None:
            above: Bool[Tensor, " s"] = loss > refinement.target
            for number in range(refinement.updates):
                if not bool(above.any()):
                    break
                inputs = torch.where(above.view(-1, 1, 1, 1), inputs - size * gradient, inputs)
                updates += above
                # as in the released code, a sample stops one update after the one that reached the target
                above = above & (loss > refinement.target)
                loss, gradient = self._gradient(inputs)
                losses.append(loss.tolist())
                self.events.refined(step, energy.name, number + 1)
        descent = Descent(energy.name, tuple(map(tuple, losses)), tuple(updates.tolist()))
        return (inputs - size * gradient) / self.scale, descent

    def _gradient(self, inputs: Tensor) -> tuple[Float[Tensor, " s"], Float[Tensor, "s c h w"]]:
        energy, step = self.energy, self.step
        place = f"loss at step {step.index}"
        with torch.enable_grad():
            leaves = inputs.detach().requires_grad_(True)
            maps = self.evaluator.maps(leaves, self.timestep, step, self.request)
            loss = guarded(energy.name, place, lambda: energy.loss(maps, step))
            if not isinstance(loss, Tensor):
                raise PluginError(energy.name, place, f"expected a tensor, found {type(loss).__name__}")
            if loss.shape != (len(inputs),) or not bool(torch.isfinite(loss).all()):
                raise PluginError(energy.name, place, "is not one finite number per sample")
            # samples do not meet in the UNet, so the gradient of the sum is every sample's own
            (gradient,) = torch.autograd.grad(loss.sum(), leaves)
        return loss.detach(), gradient
