"""Descending an energy of the attention maps before a step: gradient, refinement, a stop for every sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from ..api.guidance import Energy, Step
from ..errors import PluginError
from .branch_evaluator import BranchEvaluator, guarded


@dataclass(frozen=True)
class Descent:
    """What one strategy did at one step, for the run's trace.

    Args:
        name: of the strategy.
        losses: by evaluation, the loss of every sample: before the first update, and after each but the last.
        updates: refinement updates that each sample made; the ordinary one, which follows, is not among them.
    """

    name: str
    losses: tuple[tuple[float, ...], ...]
    updates: tuple[int, ...]

    @property
    def gradients(self) -> int:
        """How often the UNet ran as far as the last map, and back; each time for all samples of the batch."""
        return len(self.losses)


def descend(
    energy: Energy,
    latents: Float[Tensor, "s c h w"],
    scale: Float[Tensor, ""],
    timestep: Num[Tensor, ""],
    evaluator: BranchEvaluator,
    paths: frozenset[str],
    step: Step,
    on_update: Callable[[int], None] | None = None,
) -> tuple[Float[Tensor, "s c h w"], Descent]:
    """Move the latents of every sample down the gradient of its own loss.

    The gradient is taken, and the step is made, at the scale at which the UNet reads the latents, so that a step size
    means the same under every scheduler.

    Args:
        energy: gives the loss, the step size and the refinement.
        latents: before the scheduler's scaling.
        scale: the scheduler's scaling of the model's input at this timestep.
        timestep: of the step.
        evaluator: records the full branch's maps.
        paths: transformer blocks whose maps the energy reads.
        step: where the sampler is.
        on_update: called with the number of every refinement update, from 1.

    Returns:
        The latents, and what was done.

    Raises:
        PluginError: the loss is not one finite number a sample.
    """
    size = guarded(energy.name, f"step_size at step {step.index}", partial(energy.step_size, step))
    refinement = guarded(energy.name, f"refinement at step {step.index}", partial(energy.refinement, step))
    inputs = latents * scale
    loss, gradient = _gradient(energy, inputs, timestep, evaluator, paths, step)
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
            loss, gradient = _gradient(energy, inputs, timestep, evaluator, paths, step)
            losses.append(loss.tolist())
            if on_update is not None:
                on_update(number + 1)
    done = Descent(energy.name, tuple(map(tuple, losses)), tuple(updates.tolist()))
    return (inputs - size * gradient) / scale, done


def _gradient(
    energy: Energy,
    inputs: Tensor,
    timestep: Tensor,
    evaluator: BranchEvaluator,
    paths: frozenset[str],
    step: Step,
) -> tuple[Float[Tensor, " s"], Float[Tensor, "s c h w"]]:
    with torch.enable_grad():
        moved = inputs.detach().requires_grad_(True)
        maps = evaluator.maps(moved, timestep, step.full, paths)
        loss = guarded(energy.name, f"loss at step {step.index}", lambda: energy.loss(maps, step))
        if loss.shape != (len(inputs),) or not bool(torch.isfinite(loss).all()):
            raise PluginError(energy.name, f"loss at step {step.index}", "is not one finite number a sample")
        # samples do not meet in the UNet, so the gradient of the sum is every sample's own
        (gradient,) = torch.autograd.grad(loss.sum(), moved)
    return loss.detach(), gradient
