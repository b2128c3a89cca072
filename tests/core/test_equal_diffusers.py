"""Final latents against diffusers' StableDiffusionPipeline, the oracle: same weights, same noise, every scheduler."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

import weft
from weft.core.api.schedulers import SCHEDULERS
from weft.core.load import load
from weft.testing import random_model

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tiny_folder():
    return weft.load("tiny").folder


def compare(folder, scheduler: str, height: int, width: int, steps: int) -> float:
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = SCHEDULERS[scheduler].scheduler_class.from_config(theirs.scheduler.config)
    prompt = "a red star left of a blue car on grass"
    expected = theirs(
        [prompt] * 3,
        negative_prompt=["snow"] * 3,
        num_inference_steps=steps,
        guidance_scale=7.5,
        height=height,
        width=width,
        eta=0.3 if scheduler == "tcd" else 0.0,  # its own default; the pipeline's is 0
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="latent",
    ).images
    ours = load(folder, device="cpu").generate(
        weft.Scene(prompt),
        guidance=[weft.ClassifierFree(7.5, negative_prompt="snow")],
        steps=steps,
        scheduler=scheduler,
        seeds=SEEDS,
        height=height,
        width=width,
    )
    assert expected.abs().max() > 0.1  # not a comparison of zeros
    return float((ours.latents - expected).abs().max())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_random_weights(random_folder, scheduler: str) -> None:
    assert compare(random_folder, scheduler, height=48, width=32, steps=20) <= 1e-5


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_tiny(tiny_folder, scheduler: str) -> None:
    assert compare(tiny_folder, scheduler, height=80, width=64, steps=20) <= 1e-5


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m"])
def test_v_prediction(tmp_path, scheduler: str) -> None:
    folder = random_model(tmp_path)
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(
        path.read_text().replace('"prediction_type": "epsilon"', '"prediction_type": "v_prediction"')
    )
    assert "v_prediction" in path.read_text()
    assert compare(folder, scheduler, height=32, width=40, steps=20) <= 1e-5
