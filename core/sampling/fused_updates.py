"""A diffusers scheduler's steps as numbers, computed ahead, for the operation that combines and steps at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor

from ...kernels.combine import Update
from ..api.schedulers import SCHEDULERS, Scheduler


def updates(scheduler: Scheduler, first: int = 0) -> list[Update] | None:
    """One update for every timestep that is set; None where the scheduler's own `step` has to be used.

    Args:
        scheduler: its timesteps are set.
        first: the index of the first step that is taken; a multistep scheduler has no history there.

    That is so for other schedulers, and for settings whose step is not linear (clipping, thresholding), draws noise or
    is of another order. The numbers are those of the scheduler's own float32 tables.
    """
    config = scheduler.config
    if config.prediction_type not in ("epsilon", "v_prediction") or config.get("thresholding"):
        return None
    kinds = [one.update for one in SCHEDULERS.values() if one.scheduler_class is type(scheduler)]
    make = _UPDATES.get(kinds[0]) if kinds and kinds[0] else None
    return None if make is None else make(scheduler, config.prediction_type == "v_prediction", first)


def _ddim(scheduler: DDIMScheduler, velocity: bool, first: int) -> list[Update] | None:
    if scheduler.config.clip_sample:
        return None
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    updates = []
    for timestep in scheduler.timesteps.tolist():
        here = scheduler.alphas_cumprod[timestep]
        before = timestep - stride
        there = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        alpha, sigma = float(here**0.5), float((1 - here) ** 0.5)
        onward = {"p": float(there**0.5), "q": float((1 - there) ** 0.5)}
        if velocity:
            updates.append(Update("ddim", alpha, sigma, 1.0, f=alpha, g=sigma, **onward))
        else:
            updates.append(Update("ddim", 1.0, sigma, alpha, f=1.0, **onward))
    return updates


def _euler(scheduler: EulerDiscreteScheduler, velocity: bool, first: int) -> list[Update]:
    sigmas = scheduler.sigmas.cpu()
    updates = []
    for sigma, following in itertools.pairwise(sigmas):
        onward = {"p": float(sigma), "q": float(following - sigma)}
        if velocity:
            a, b = 1 / (sigma**2 + 1), sigma / (sigma**2 + 1) ** 0.5
            updates.append(Update("euler", float(a), float(b), 1.0, **onward))
        else:
            updates.append(Update("euler", 1.0, float(sigma), 1.0, **onward))
    return updates


def _plain(config: Mapping[str, Any]) -> bool:
    """Whether it is DPM-Solver++(2M) without noise; its second derivative is taken at the middle."""
    return (
        config["algorithm_type"] == "dpmsolver++"
        and config["solver_type"] == "midpoint"
        and config["solver_order"] == 2
        and config["variance_type"] not in ("learned", "learned_range")
        and not config["use_flow_sigmas"]
    )


def _dpmpp_2m(scheduler: DPMSolverMultistepScheduler, velocity: bool, first: int) -> list[Update] | None:
    if not _plain(scheduler.config):
        return None
    config, sigmas = scheduler.config, scheduler.sigmas.cpu()
    count = len(scheduler.timesteps)
    last_is_first_order = (
        config.euler_at_final
        or (config.lower_order_final and count < 15)
        or config.final_sigmas_type == "zero"
    )
    updates = []
    for index in range(count):
        (alpha, sigma, level), (alpha_next, sigma_next, level_next) = (
            _levels(scheduler, one) for one in (sigmas[index], sigmas[index + 1])
        )
        step = level_next - level
        ahead = alpha_next * ((-step).exp() - 1.0)
        second = {}
        if index > first and not (index == count - 1 and last_is_first_order):
            _, _, level_before = _levels(scheduler, sigmas[index - 1])
            second = {"f": float(0.5 * ahead), "g": float(1.0 / ((level - level_before) / step))}
        a, c = (float(alpha), 1.0) if velocity else (1.0, float(alpha))
        onward = {"p": float(sigma_next / sigma), "q": float(ahead)}
        updates.append(Update("dpmpp_2m", a, float(sigma), c, **onward, **second))
    return updates


def _levels(scheduler: DPMSolverMultistepScheduler, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha, sigma and half the logarithm of the signal-to-noise ratio."""
    alpha, scaled = scheduler._sigma_to_alpha_sigma_t(sigma)
    return alpha, scaled, alpha.log() - scaled.log()


_UPDATES: Mapping[str, Callable[[Any, bool, int], list[Update] | None]] = {
    "ddim": _ddim,
    "euler": _euler,
    "dpmpp_2m": _dpmpp_2m,
}
