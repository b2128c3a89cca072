"""How much noise there is at every step: for latents without noise, and for going back to where there was more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..api.schedulers import Scheduler
from ..errors import UserError


@dataclass(frozen=True)
class Level:
    """Latents of this level are ``alpha * clean + sigma * noise``."""

    alpha: float
    sigma: float


def levels(scheduler: Scheduler, strategy: str) -> list[Level]:
    """The level at the beginning of every step, and after the last.

    Args:
        scheduler: its timesteps have just been set.
        strategy: that wants to go back, for the error.

    Raises:
        UserError: the scheduler takes several calls a step, between which there is no level.
    """
    own: Any = scheduler
    times = own.timesteps
    several = getattr(own, "order", 1) > 1 or len(times.unique()) < len(times)
    if several:
        expected = f"a scheduler of one call a step, for '{strategy}', which goes back"
        raise UserError("sampler, field 'scheduler'", expected, type(own).__name__)
    one, nothing = (
        torch.full((1, 1, 1, 1), value, dtype=torch.float64, device=times.device) for value in (1.0, 0.0)
    )
    found = [
        Level(float(own.add_noise(one, nothing, time[None])), float(own.add_noise(nothing, one, time[None])))
        for time in times
    ]
    return [*found, _last(own, scaled=found[0].alpha != 1.0)]


def _last(scheduler: Any, scaled: bool) -> Level:
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        sigma = float(sigmas[-1])
        alpha = 1.0 / (1.0 + sigma**2) ** 0.5 if scaled else 1.0
        return Level(alpha, sigma * alpha)
    kept = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    return Level(kept**0.5, (1.0 - kept) ** 0.5)


def noisier(
    latents: Float[Tensor, "s c h w"], noise: Float[Tensor, "s c h w"], now: Level, then: Level
) -> Float[Tensor, "s c h w"]:
    """Latents of one level brought to a noisier one, as the forward process would."""
    kept = then.alpha / now.alpha
    moved: Tensor = kept * latents + max(then.sigma**2 - (kept * now.sigma) ** 2, 0.0) ** 0.5 * noise
    return moved


def clean_latents(
    scheduler: Scheduler,
    index: int,
    scale: float,
    prediction: Float[Tensor, "s c h w"],
    inputs: Float[Tensor, "s c h w"],
) -> Float[Tensor, "s c h w"] | None:
    """What a prediction takes for the latents without noise; None where the scheduler does not say.

    Args:
        scheduler: of the run.
        index: of the step.
        scale: of the scheduler at the step.
        prediction: of the step, after guidance.
        inputs: what the UNet read.
    """
    own: Any = scheduler
    kind = own.config.get("prediction_type", "epsilon")
    if kind == "sample":
        return prediction
    kept = scale**2
    if scale == 1.0:  # latents of unit variance
        if not hasattr(own, "alphas_cumprod"):
            return None
        last = len(own.alphas_cumprod) - 1
        kept = float(own.alphas_cumprod[min(max(round(float(own.timesteps[index])), 0), last)])
    alpha, sigma = kept**0.5, (1.0 - kept) ** 0.5
    velocity, noise = alpha * inputs - sigma * prediction, (inputs - sigma * prediction) / max(alpha, 1e-4)
    clean: Tensor = velocity if kind == "v_prediction" else noise
    return clean
