"""UNets that read more than the latents, fed by conditioners of the tests' own: equal to diffusers' pipelines."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionInstructPix2PixPipeline
from PIL import Image

import weft
from weft.plugin import (
    Conditioner,
    Fixed,
    InputChannels,
    ModelView,
    Prepared,
    Scene,
    open_mask,
    record,
    resize,
)
from weft.testing import random_model

PROMPT = "a red ball on grass"
OPTIONS = {"torch_dtype": torch.float64, "safety_checker": None, "requires_safety_checker": False}


@record
class Inpainting(Conditioner):
    """The mask, and the latents of the source without what it covers; the null is the same."""

    name: ClassVar[str] = "inpainting"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        assert model.extra_input is not None
        mask = resize(open_mask(scene.edit_mask, model.size, "edit_mask")[None], model.latent_size)
        channels = torch.cat([mask.double(), model.source_latents(scene)])
        entries = (InputChannels(model.extra_input, channels),)
        return Fixed(entries, entries)


@record
class Source(Conditioner):
    """The latents of the source, not scaled; the null is zeros."""

    name: ClassVar[str] = "source"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        assert model.extra_input is not None
        channels = model.source_latents(scene) / model.vae.config["scaling_factor"]
        entries = [(InputChannels(model.extra_input, one),) for one in (channels, torch.zeros_like(channels))]
        return Fixed(*entries)


def scene() -> weft.Scene:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 20))
    return weft.Scene(PROMPT, source=Image.fromarray(pixels.numpy()), edit_mask=mask)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.filterwarnings("ignore::weft.SceneWarning")
def test_inpainting_is_that_of_diffusers(tmp_path, noise) -> None:
    folder = random_model(tmp_path, in_channels=9)
    pipe = weft.load(folder, device="cpu", dtype="float64")
    theirs = StableDiffusionInpaintPipeline.from_pretrained(folder, **OPTIONS)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = scheduler_of(pipe)
    expected = theirs(
        PROMPT,
        image=scene().source,
        mask_image=scene().edit_mask,
        masked_image_latents=pipe.view((32, 32)).source_latents(scene())[None],
        height=32,
        width=32,
        num_inference_steps=5,
        guidance_scale=5.0,
        latents=noise,
        output_type="latent",
    ).images
    ours = pipe.generate(scene(), [Inpainting()], [weft.ClassifierFree(5.0)], steps=5, latents=noise)
    assert float((ours.latents - expected).abs().max()) < 1e-9


@pytest.mark.filterwarnings("ignore::weft.SceneWarning")
def test_instruct_pix2pix_is_that_of_diffusers(tmp_path, noise) -> None:
    folder = random_model(tmp_path, in_channels=8)
    pipe = weft.load(folder, device="cpu", dtype="float64")
    theirs = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, **OPTIONS)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = scheduler_of(pipe)
    unscaled = pipe.view((32, 32)).source_latents(scene())[None] / pipe.vae.config["scaling_factor"]
    expected = theirs(
        PROMPT,
        image=unscaled,
        num_inference_steps=5,
        guidance_scale=5.0,
        image_guidance_scale=1.5,
        latents=noise,
        output_type="latent",
    ).images
    guidance = [weft.Instruct(text_scale=5.0, image_scale=1.5)]
    ours = pipe.generate(scene(), [Source()], guidance, steps=5, latents=noise)
    assert float((ours.latents - expected).abs().max()) < 1e-9


def scheduler_of(pipe):
    from weft.core.api.schedulers import make_scheduler

    return make_scheduler("ddim", pipe.scheduler)


def test_nothing_beside_the_latents_is_refused_before_the_first_step(tmp_path) -> None:
    pipe = weft.load(random_model(tmp_path, in_channels=9), device="cpu")
    assert pipe.extra_input.in_channels == 5
    steps: list[Any] = []
    for options in ({}, {"conditioners": [Inpainting(strength=0.0)]}):
        with pytest.raises(weft.UserError, match="feeds the 5 channels which it reads beside the latents"):
            pipe.generate(PROMPT, steps=2, progress=steps.append, **options)
    assert steps == []
