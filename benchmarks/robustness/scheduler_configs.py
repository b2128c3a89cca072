"""Do schedulers' configurations mean here what they mean in diffusers' StableDiffusionPipeline?

A configuration that models ship is mutated (fields dropped, values exchanged, another class named), written into a
folder, and read by both. With a scheduler of the table, ours and theirs must have the same timesteps and the same
products of alphas, and the first three steps from the same latents and predictions must end the same; or both fail.

    python benchmarks/robustness/scheduler_configs.py     # a minute
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionPipeline
from robustness_helpers.figures import keep
from torch import Tensor

from weft.core.api.branches import Branch, LinearForm
from weft.core.api.predictions import Predictions
from weft.core.api.schedulers import SCHEDULERS, make_scheduler, own_scheduler, scheduler_fields
from weft.core.checkpoints.noise_schedule import folder_schedule
from weft.core.errors import UserError
from weft.core.sampling.scheduler_step import Stepper

SHIPPED: list[dict[str, Any]] = [
    # Stable Diffusion 1.4 and 1.5, 2.1, Turbo, and what LCM and TCD models ship
    {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    },
    {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    },
    {
        "_class_name": "EulerAncestralDiscreteScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "steps_offset": 1,
        "timestep_spacing": "trailing",
    },
    {
        "_class_name": "DPMSolverMultistepScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "lambda_min_clipped": float("-inf"),
        "use_karras_sigmas": True,
        "solver_order": 2,
    },
    {
        "_class_name": "LCMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "original_inference_steps": 50,
        "set_alpha_to_one": True,
        "steps_offset": 1,
        "thresholding": False,
    },
]
VALUES: dict[str, list[Any]] = {
    "beta_start": [0.0001, 0.001],
    "beta_end": [0.02, 0.0155],
    "beta_schedule": ["linear", "scaled_linear", "squaredcos_cap_v2", "cosine"],
    "clip_sample": [True, False, None],
    "clip_sample_range": [1.0, 3.0],
    "num_train_timesteps": [1000, 500, 100],
    "prediction_type": ["epsilon", "v_prediction", "sample", "velocity"],
    "rescale_betas_zero_snr": [True, False],
    "set_alpha_to_one": [True, False],
    "skip_prk_steps": [True, False],
    "steps_offset": [0, 1],
    "thresholding": [False, True],
    "timestep_spacing": ["leading", "trailing", "linspace", "evenly"],
    "trained_betas": [None],
    "use_karras_sigmas": [True, False],
    "use_exponential_sigmas": [True, False],
    "algorithm_type": ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "deis"],
    "solver_order": [1, 2, 3],
    "solver_type": ["midpoint", "heun", "bh1", "logrho"],
    "lower_order_final": [True, False],
    "euler_at_final": [True, False],
    "final_sigmas_type": ["zero", "sigma_min"],
    "interpolation_type": ["linear", "log_linear"],
    "lambda_min_clipped": [-5.1, float("-inf")],
    "variance_type": [None, "fixed_small", "learned"],
    "_class_name": sorted(entry.class_name for entry in SCHEDULERS.values()),
}
TOLERANCE = 2e-5
"""Of values about 1: a fused step rounds a product and a sum in another order."""


def mutated(chance: random.Random) -> dict[str, Any]:
    """A configuration with up to six fields dropped and up to four exchanged."""
    config = dict(chance.choice(SHIPPED))
    for name in chance.sample(sorted(config), chance.randint(0, 6)):
        if name != "_class_name":
            del config[name]
    for name in chance.sample(sorted(VALUES), chance.randint(0, 4)):
        config[name] = chance.choice(VALUES[name])
    return config


def drawn(scheduler: Any, steps: int, stepper: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Timesteps, products of alphas, and the latents after at most three steps."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 4, 4, generator=generator) * scheduler.init_noise_sigma
    step = stepper(scheduler)
    for index, timestep in enumerate(scheduler.timesteps[:3]):
        prediction = torch.randn(1, 4, 4, 4, generator=generator)
        scheduler.scale_model_input(latents, timestep)
        latents = step(index, timestep, prediction, latents)
    return scheduler.timesteps, scheduler.alphas_cumprod, latents


def theirs(folder: Path, class_name: str, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """What diffusers makes of the folder's file with a class, handed to its pipeline."""
    scheduler = getattr(diffusers, class_name).from_pretrained(folder / "scheduler")
    parts: dict[str, Any] = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor")
    )
    pipe = StableDiffusionPipeline(**parts, scheduler=scheduler, requires_safety_checker=False)

    def stepper(own: Any) -> Any:
        noise = {"generator": torch.Generator().manual_seed(2)}
        options = noise if "generator" in own.step.__code__.co_varnames else {}
        return lambda index, timestep, prediction, latents: (
            own.step(prediction, timestep, latents, **options).prev_sample
        )

    return drawn(pipe.scheduler, steps, stepper)


def ours(folder: Path, name: str | None, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """What Weft makes of it."""
    config = folder_schedule(folder, scheduler_fields())
    own = own_scheduler(config)

    def stepper(scheduler: Any) -> Any:
        whole = Stepper(scheduler, [torch.Generator().manual_seed(2)])
        branch = Branch()

        def step(index: int, timestep: Tensor, prediction: Tensor, latents: Tensor) -> Tensor:
            whole.begin(index)
            predictions = Predictions({branch: prediction})
            return whole.step(index, predictions, LinearForm.of(branch), None, latents)[0]

        return step

    return drawn(make_scheduler(name or own, config), steps, stepper)


def outcome(call: Any) -> Any:
    """What a call gives, or the error in its place."""
    try:
        return call()
    except Exception as error:  # of any kind: diffusers raises what comes
        return error


def same(mine: Any, peer: Any) -> str:
    """Empty for the same outcome; else what differs."""
    if isinstance(mine, Exception) or isinstance(peer, Exception):
        if isinstance(mine, Exception) and isinstance(peer, Exception):
            return ""
        return f"ours {mine!r:.200}, theirs {peer!r:.200}"
    for what, a, b in zip(("timesteps", "alphas", "latents"), mine, peer, strict=True):
        near = a.shape == b.shape and torch.allclose(
            a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
        )
        if not near:
            return f"{what}: {a.flatten()[:4].tolist()}, theirs {b.flatten()[:4].tolist()}"
    return ""


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Compare so many configurations, each with one scheduler."""
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    first: list[str] = []
    for number in range(count):
        config, name = mutated(chance), list(SCHEDULERS)[number % len(SCHEDULERS)]
        steps = chance.choice((3, 5, 10))
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = Path(place)
            (folder / "scheduler").mkdir()
            (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
            mine = outcome(partial(ours, folder, name, steps))
            peer = outcome(partial(theirs, folder, SCHEDULERS[name].class_name, steps))
        differs = same(mine, peer)
        if not differs:
            outcomes["both fail" if isinstance(mine, Exception) else "same"] += 1
        elif isinstance(mine, UserError):
            outcomes["refused here only"] += 1
            first.append(f"{name}, {steps} steps, {config}: {differs}")
        else:
            outcomes["different"] += 1
            first.append(f"{name}, {steps} steps, {config}: {differs}")
    return {"configurations": count, **outcomes, "different": outcomes["different"], "first": first[:5]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=480)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    found = run(arguments.count, arguments.seed)
    holds = found["different"] == 0 and found["same"] >= 200
    keep(
        "scheduler_configs",
        "at least 200 mutated configurations, 0 that mean something else here",
        holds,
        found,
    )


if __name__ == "__main__":
    main()
