"""pag: equality with diffusers' pipeline, what it evaluates, and the plugin contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPAGPipeline

import weft
from weft.core.api.branches import Branch
from weft.core.load import load
from weft.testing import SecondPrompt, parametrize_with_checks, random_model, random_pipeline

PROMPT = "a toy and a red star on grass"
SEEDS = (1, 2, 3)


@parametrize_with_checks([weft.PAG(scale=30.0), weft.PAG(20.0, 0.01, ("mid_block", "up_blocks.1"))])
def test_contract(plugin, check) -> None:
    check(plugin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model"))


def theirs(folder, scale: float, adaptive: float, layers: list[str], guidance: float) -> torch.Tensor:
    pipe = StableDiffusionPAGPipeline.from_pretrained(
        folder, safety_checker=None, torch_dtype=torch.float64, pag_applied_layers=layers
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    noise = [torch.randn((1, 4, 8, 6), generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    latents: torch.Tensor = pipe(
        [PROMPT] * 3,
        height=32,
        width=24,
        latents=torch.cat(noise).double(),
        num_inference_steps=5,
        guidance_scale=guidance,
        pag_scale=scale,
        pag_adaptive_scale=adaptive,
        output_type="latent",
    ).images
    return latents


# diffusers multiplies the adaptive scale in float32; this one is a power of two, and so exact
@pytest.mark.parametrize(
    ("scale", "adaptive", "layers", "guidance"),
    [
        (30.0, 0.0, ("mid_block",), 7.5),
        (30.0, 0.03125, ("up_blocks.1", "down_blocks.0.attentions.0"), 7.5),
        (30.0, 0.0, ("mid_block", "up_blocks"), 0.0),
    ],
)
def test_equals_diffusers(folder, scale, adaptive, layers, guidance) -> None:
    chain: list[Any] = [weft.ClassifierFree(guidance)] if guidance else []
    options: dict[str, Any] = {"steps": 5, "seeds": SEEDS, "height": 32, "width": 24}
    pipe = load(folder, device="cpu", dtype=torch.float64)
    ours = pipe.generate(weft.Scene(PROMPT), (), [*chain, weft.PAG(scale, adaptive, layers)], **options)
    expected = theirs(folder, scale, adaptive, list(layers), guidance)
    assert (ours.latents - expected).abs().max() <= 1e-9
    without = pipe.generate(weft.Scene(PROMPT), (), chain, **options)
    assert (ours.latents - without.latents).abs().max() > 1e-2


def draw(*chain, **options: Any) -> weft.Result:
    return random_pipeline().generate(weft.Scene("a toy on grass"), guidance=chain, steps=3, **options)


def test_it_perturbs_what_reads_the_prompt_and_costs_a_branch() -> None:
    result = draw(weft.ClassifierFree(5.0), weft.PAG(3.0))
    full = Branch.full([])
    perturbed = full.adding("pag (mid_block)")
    for one in result.trace:
        assert dict(one.form) == {full: 8.0, Branch(prompt=""): -4.0, perturbed: -3.0}
        assert one.evaluations == 3


def test_before_classifier_free_guidance_its_scale_is_multiplied() -> None:
    before = draw(weft.PAG(2.0), weft.ClassifierFree(5.0))
    after = draw(weft.ClassifierFree(5.0), weft.PAG(10.0))
    assert torch.allclose(before.latents, after.latents, atol=1e-4)


def test_two_of_them_perturb_their_own_layers() -> None:
    both = draw(weft.PAG(30.0), weft.PAG(30.0, layers=("up_blocks.1",)))
    assert [one.evaluations for one in both.trace] == [
        4
    ] * 3  # the second perturbs the first one's branch too
    for one in (weft.PAG(30.0), weft.PAG(30.0, layers=("up_blocks.1",))):
        assert (both.latents - draw(one).latents).abs().max() > 1e-3


def test_it_goes_with_a_conditioner() -> None:
    result = draw(weft.ClassifierFree(5.0), weft.PAG(30.0), conditioners=[SecondPrompt()])
    (branch,) = [one for one in result.trace[0].form if one.strength("pag (mid_block)")]
    assert branch.strength("second_prompt") == 1.0


def test_the_scale_falls_to_nothing() -> None:
    falling = draw(weft.PAG(30.0, adaptive_scale=0.1))
    assert [one.evaluations for one in falling.trace] == [
        2 if one.step.timestep > 700 else 1 for one in falling.trace
    ]


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(weft.UserError, match=r"pag, field 'layers': expected .*mid_block.*found 'mid'"):
        draw(weft.PAG(layers=("mid",)))
