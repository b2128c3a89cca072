"""sag: equality with diffusers' deprecated pipeline, what it evaluates, and the plugin contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from diffusers.pipelines.deprecated.stable_diffusion_sag import pipeline_stable_diffusion_sag as peer

import weft
from weft.core.api.branches import Branch, LinearForm
from weft.core.load import load
from weft.testing import parametrize_with_checks, random_model, random_pipeline

PROMPT = "a toy and a red star on grass"
SEEDS = (1, 2, 3)
SCHEDULERS = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}


@parametrize_with_checks([weft.SAG(scale=20.0), weft.SAG(20.0, threshold=0.9, sigma=3.0)])
def test_contract(plugin, check) -> None:
    check(plugin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model"))


def theirs(folder, scheduler: str, scale: float, guidance: float) -> torch.Tensor:
    pipe = peer.StableDiffusionSAGPipeline.from_pretrained(
        folder, safety_checker=None, torch_dtype=torch.float64
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = SCHEDULERS[scheduler].from_config(pipe.scheduler.config)
    noise = [torch.randn((1, 4, 8, 12), generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    latents: torch.Tensor = pipe(
        [PROMPT] * 3,
        height=32,
        width=48,
        latents=torch.cat(noise).double(),
        num_inference_steps=5,
        guidance_scale=guidance,
        sag_scale=scale,
        output_type="latent",
    ).images
    return latents


# with dpmpp_2m their pipeline reads noise levels from another float32 table than their scheduler does
@pytest.mark.parametrize(
    ("scheduler", "guidance", "tolerance"),
    [("ddim", 7.5, 1e-9), ("ddim", 1.0, 1e-9), ("dpmpp_2m", 7.5, 1e-5)],
)
def test_equals_diffusers(folder, scheduler: str, guidance: float, tolerance: float) -> None:
    chain: list[Any] = [weft.ClassifierFree(guidance)]
    options: dict[str, Any] = {"steps": 5, "seeds": SEEDS, "height": 32, "width": 48, "scheduler": scheduler}
    pipe = load(folder, device="cpu", dtype=torch.float64)
    ours = pipe.generate(weft.Scene(PROMPT), (), [*chain, weft.SAG(10.0)], **options)
    assert (ours.latents - theirs(folder, scheduler, 10.0, guidance)).abs().max() <= tolerance
    without = pipe.generate(weft.Scene(PROMPT), (), chain, **options)
    assert (ours.latents - without.latents).abs().max() > 1e-2


def draw(*chain, **options: Any) -> weft.Result:
    return random_pipeline().generate(weft.Scene("a toy on grass"), guidance=chain, steps=3, **options)


def test_the_second_evaluation_is_in_the_trace() -> None:
    null, full = Branch(prompt=""), Branch.full([])
    for one in draw(weft.ClassifierFree(5.0), weft.SAG(0.75)).trace:
        assert one.evaluations == 3
        assert one.seconds == (("sag", LinearForm.of(null)),)
        assert dict(one.form) == {full: 5.0, null: -4.0}
    for one in draw(weft.SAG(0.75)).trace:
        assert one.evaluations == 2
        assert one.seconds == (("sag", LinearForm.of(full)),)
    for one in draw(weft.ClassifierFree(5.0), weft.SAG(0.0)).trace:
        assert one.evaluations == 2
        assert one.seconds == ()


@pytest.mark.parametrize("scheduler", ["euler", "pndm"])
def test_estimates_are_what_a_step_began_with(scheduler: str) -> None:
    """Clean latents with that noise are the latents, whatever the scheduler's scale."""
    seen = []

    @weft.record
    class Look(weft.SAG):
        def begin(self, batch):
            inner = super().begin(batch)
            seen.append(batch)
            return inner

    draw(Look(0.75), scheduler=scheduler)
    (batch,) = seen
    step = draw().trace[1].step
    latents, prediction = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    clean, noise = batch.estimates(latents, prediction, step)
    assert torch.allclose(batch.noised(clean, noise, step), latents, atol=1e-4)


def test_it_goes_with_pag_and_maps_are_still_recorded() -> None:
    result = draw(weft.ClassifierFree(5.0), weft.PAG(3.0), weft.SAG(0.75))
    assert [one.evaluations for one in result.trace] == [4] * 3
    plain = draw(weft.ClassifierFree(5.0))
    assert result.attention("toy").shape == plain.attention("toy").shape
