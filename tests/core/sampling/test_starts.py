"""Where runs begin and end: against diffusers' image-to-image pipeline, against a run in one piece, and back again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from diffusers import DDIMInverseScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image

import weft
from weft.core.api.schedulers import SCHEDULERS, make_scheduler
from weft.core.load import load
from weft.core.sampling.noise_levels import levels, noisier
from weft.plugin import Guidance, Step, record
from weft.testing import random_model

IMG2IMG = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor"


def scene(prompt: str = "a red ball on grass") -> weft.Scene:
    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return weft.Scene(prompt, source=Image.fromarray(pixels.numpy()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(folder):
    return load(folder, device="cpu", dtype=torch.float64)


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS.keys() - {"ddpm", "sa_solver", "lcm", "tcd"}))
def test_a_noised_source_is_drawn_as_image_to_image_does(folder, pipe, monkeypatch, scheduler: str) -> None:
    """In float64; both draw the noise in float32, so that a seed is one noise."""

    def noise(shape, generator, device, dtype):
        each = [torch.randn((1, *shape[1:]), generator=one) for one in generator]
        return torch.cat(each).to(dtype)

    monkeypatch.setattr(IMG2IMG, noise)
    theirs = StableDiffusionImg2ImgPipeline.from_pretrained(
        folder, safety_checker=None, torch_dtype=torch.float64
    )
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = make_scheduler(scheduler, theirs.scheduler.config)
    expected = theirs(
        "a red ball on grass",
        image=pipe.view((32, 32)).source_latents(scene())[None],
        strength=0.6,
        num_inference_steps=8,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(1)],
        output_type="latent",
    ).images
    options = {"steps": 8, "guidance": [weft.ClassifierFree(5.0)], "scheduler": scheduler, "seeds": [1]}
    ours = pipe.generate(scene(), strength=0.6, **options)
    if "ancestral" not in scheduler:  # which draws the noise of its steps in float64 there
        # diffusers' own steps of these two round to float32
        bound = 1e-6 if scheduler in ("euler", "dpmpp_2m") else 1e-9
        assert float((ours.latents - expected).abs().max()) < bound
    whole = pipe.generate(scene(), **options) if scheduler == "ddim" else None
    assert whole is None or float((whole.latents - ours.latents).abs().max()) > 0.1


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "pndm"])
def test_one_run_goes_on_where_another_ended(pipe, scheduler: str) -> None:
    options: dict[str, Any] = {"steps": 6, "scheduler": scheduler, "guidance": [weft.ClassifierFree(5.0)]}
    whole = pipe.generate("a red ball", **options)
    half = pipe.generate("a red ball", until=0.5, **options)
    assert len(half.trace) + len(whole.trace[len(half.trace) :]) == len(whole.trace)
    if scheduler == "pndm":
        return  # a step of it reads the steps before: a run that begins anew is another one
    rest = pipe.generate("a red ball", latents=half.latents, strength=0.5, **options)
    assert [one.step.index for one in rest.trace] == [3, 4, 5]
    assert torch.equal(rest.latents, whole.latents)


def test_given_noise_stands_for_the_seeds(pipe) -> None:
    drawn = pipe.generate("a red ball", seeds=[4, 5], steps=2)
    size = drawn.latents.shape[2:]
    noise = [torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(seed)) for seed in (4, 5)]
    given = pipe.generate("a red ball", latents=torch.cat(noise), seeds=[0, 1], steps=2)
    assert torch.equal(given.latents, drawn.latents)
    assert given.settings.unwritten == "latents, which were given"


def test_inversion_is_diffusers_and_leads_back(pipe) -> None:
    inverted = pipe.invert(scene(), steps=20)
    start = pipe.view((32, 32)).source_latents(scene())[None]
    scheduler = DDIMInverseScheduler.from_config(dict(make_scheduler("ddim", pipe.scheduler).config))
    scheduler.set_timesteps(20)
    context = pipe.text.encode(pipe.text.tokens("a red ball on grass"))[None]
    latents = start
    for timestep in scheduler.timesteps:
        with torch.no_grad():
            noise = pipe.unet(latents, timestep, context).sample
        latents = scheduler.step(noise, timestep, latents).prev_sample
    assert torch.allclose(inverted, latents, atol=1e-9, rtol=0)

    def back(steps: int) -> float:
        noise = pipe.invert(scene(), steps=steps)
        drawn = pipe.generate(
            scene(), guidance=[], latents=noise, strength=None, scheduler="ddim", steps=steps
        )
        return float((drawn.latents - start).pow(2).mean())

    with pytest.warns(weft.SceneWarning):
        assert back(40) < back(5) / 2


@record
class Again(Guidance):
    """Goes back so many steps after every so many, once."""

    name: ClassVar[str] = "again"
    neutral: ClassVar[Mapping[str, Any]] = {"back": 0}
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    back: int = 1

    def travel_back(self, step: Step) -> int:
        return self.back if self.back and (step.index + 1) % self.back == 0 and step.visit == 0 else 0


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("back", [1, 2])
def test_steps_are_taken_again(pipe, scheduler: str, back: int) -> None:
    drawn = pipe.generate("a red ball", guidance=[Again(back)], steps=4, scheduler=scheduler)
    order = {1: [0, 0, 1, 1, 2, 2, 3, 3], 2: [0, 1, 0, 1, 2, 3, 2, 3]}
    assert [one.step.index for one in drawn.trace] == order[back]
    plain = pipe.generate("a red ball", guidance=[], steps=4, scheduler=scheduler)
    assert float((plain.latents - drawn.latents).abs().max()) > 0.1
    both = pipe.generate("a red ball", guidance=[Again(back)], steps=4, scheduler=scheduler, seeds=[3, 0])
    assert torch.allclose(both.latents[1], drawn.latents[0], atol=1e-9)


def test_going_back_is_the_forward_process(pipe) -> None:
    """By hand: one step of DDIM, back, and the step again; the noise is the sample's own generator's."""
    drawn = pipe.generate("a red ball", guidance=[Again(1)], steps=1, seeds=[7])
    generator = torch.Generator().manual_seed(7)
    scheduler: Any = make_scheduler("ddim", pipe.scheduler)
    scheduler.set_timesteps(1)
    (timestep,) = scheduler.timesteps
    shape = drawn.latents.shape[1:]
    latents = torch.randn(1, *shape, generator=generator).double()
    context = pipe.text.encode(pipe.text.tokens("a red ball"))[None]

    def step(x):
        with torch.no_grad():
            return scheduler.step(pipe.unet(x, timestep, context).sample, timestep, x).prev_sample

    latents = step(latents)
    here, last = scheduler.alphas_cumprod[timestep].double(), scheduler.final_alpha_cumprod.double()
    kept = here / last
    latents = kept.sqrt() * latents + (1 - kept).sqrt() * torch.randn(shape, generator=generator).double()
    assert torch.allclose(drawn.latents, step(latents), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "deis", "lms"])
def test_the_variance_of_noisier_latents_is_that_of_their_level(pipe, name: str) -> None:
    scheduler = make_scheduler(name, pipe.scheduler)
    scheduler.set_timesteps(6, device=torch.device("cpu"))
    ladder = levels(scheduler, "again")
    assert [one.sigma / one.alpha for one in ladder] == sorted(
        (one.sigma / one.alpha for one in ladder), reverse=True
    )
    now, then = ladder[4], ladder[1]
    noise = torch.randn(2, 1, 4, 200, 250, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    clean = torch.full_like(noise[0], 2.0)
    moved = noisier(now.alpha * clean + now.sigma * noise[0], noise[1], now, then)
    assert float(moved.mean()) == pytest.approx(2.0 * then.alpha, rel=0.02)
    assert float(moved.std()) == pytest.approx(then.sigma, rel=0.02)


def test_who_goes_back_for_ever_is_stopped_and_pndm_refused(pipe) -> None:
    @record
    class Stuck(Guidance):
        name: ClassVar[str] = "stuck"
        neutral: ClassVar[Mapping[str, Any]] = {}
        scene_fields: ClassVar[frozenset[str]] = frozenset()

        def travel_back(self, step: Step) -> int:
            return 2

    with pytest.raises(weft.PluginError, match="plugin 'stuck', travel_back at step 0: expected 0 to 1"):
        pipe.generate("a red ball", guidance=[Stuck()], steps=2)
    with pytest.raises(weft.UserError, match="one call a step, for 'again'"):
        pipe.generate("a red ball", guidance=[Again()], steps=3, scheduler="pndm")


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m", "heun", "lms"])
def test_previews_come_to_the_image(pipe, scheduler: str) -> None:
    """Every step's clean latents lie nearer to the last ones than its noisy ones do, and the last are the image's."""
    seen = []
    drawn = pipe.generate(
        "a red ball",
        guidance=[],
        steps=8,
        scheduler=scheduler,
        progress=lambda now: seen.append((now.latents, now.clean())),
    )
    assert len(seen) == len(drawn.trace)
    assert torch.equal(seen[-1][0], drawn.latents)
    assert torch.allclose(seen[-1][1], drawn.latents, atol=0.3)
    if scheduler == "ddim":
        ddim: Any = make_scheduler("ddim", pipe.scheduler)
        alpha = ddim.alphas_cumprod[int(drawn.trace[0].step.timestep)].sqrt().double()
        noise = torch.randn(drawn.latents.shape, generator=torch.Generator().manual_seed(0)).double()
        context = pipe.text.encode(pipe.text.tokens("a red ball"))[None]
        with torch.no_grad():
            predicted = pipe.unet(noise, drawn.trace[0].step.timestep, context).sample
        assert torch.allclose(seen[0][1], (noise - (1 - alpha**2).sqrt() * predicted) / alpha, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 0.5}, ["'source'", "an image to edit"]),
        ({"strength": 1.5}, ["'strength'", "at most 1"]),
        ({"until": 0.0}, ["'until'", "more than 0"]),
        ({"latents": torch.zeros(1, 4, 3, 3)}, ["'latents'", "of shape (1, 4,", "(1, 4, 3, 3)"]),
        ({"latents": torch.full((1, 4, 8, 8), torch.nan)}, ["'latents'", "finite numbers"]),
    ],
)
def test_what_is_no_start_is_refused(pipe, options, words) -> None:
    with pytest.raises(weft.UserError) as caught:
        pipe.generate("a red ball", steps=2, **options)
    assert all(word in str(caught.value) for word in words), caught.value
