"""Schedulers with options, as objects, and from elsewhere: as diffusers' own pipeline has them."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline

import weft
from weft.core.api.registry import Registry
from weft.core.api.scheduler_entry import SchedulerEntry
from weft.core.api.schedulers import SCHEDULERS, make_scheduler
from weft.plugin import hookimpl
from weft.testing import random_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(folder):
    return weft.load(folder, device="cpu")


@pytest.mark.parametrize(("name", "eta"), [("ddim", 0.0), ("ddim", 0.7), ("tcd", 0.0), ("tcd", 1.0)])
def test_eta_is_that_of_diffusers(folder, pipe, name: str, eta: float) -> None:
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = make_scheduler(name, theirs.scheduler.config)
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    expected = theirs(
        ["a toy"] * 2,
        num_inference_steps=6,
        guidance_scale=3.0,
        eta=eta,
        generator=seeds,
        height=32,
        width=32,
        output_type="latent",
    ).images
    options = {"steps": 6, "guidance": [weft.ClassifierFree(3.0)], "seeds": [1, 2], "scheduler": name}
    ours = pipe.generate("a toy", scheduler_options={"eta": eta}, **options)
    assert float((ours.latents - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_an_object_is_remembered_by_name_and_options_and_not_changed(pipe) -> None:
    own = diffusers.DPMSolverMultistepScheduler.from_config(dict(pipe.scheduler), use_karras_sigmas=True)
    drawn = pipe.generate("a toy", steps=4, scheduler=own)
    sampler = drawn.settings.sampler
    assert sampler.scheduler == "dpmpp_2m"
    assert sampler.scheduler_options == {"use_karras_sigmas": True}
    assert own.num_inference_steps is None
    named = pipe.generate("a toy", steps=4, scheduler="dpmpp_2m", scheduler_options=sampler.scheduler_options)
    assert torch.equal(named.latents, drawn.latents)
    assert not torch.equal(pipe.generate("a toy", steps=4, scheduler="dpmpp_2m").latents, drawn.latents)


class Doubled(diffusers.DDIMScheduler):
    """A scheduler of another distribution."""


def test_an_object_of_another_class_is_drawn_with_and_said_to_be_lost(pipe) -> None:
    drawn = pipe.generate(
        "a toy", steps=2, scheduler=Doubled.from_config(make_scheduler("ddim", pipe.scheduler).config)
    )
    assert drawn.settings.unwritten == "the scheduler Doubled, which was given as an object"
    assert torch.allclose(drawn.latents, pipe.generate("a toy", steps=2, scheduler="ddim").latents, atol=1e-5)
    with pytest.raises(weft.UserError, match="none beside a scheduler that is in hand"):
        pipe.generate("a toy", scheduler=Doubled(), scheduler_options={"eta": 1.0})


def test_another_distribution_brings_one(monkeypatch) -> None:
    class Elsewhere:
        @hookimpl
        def weft_schedulers(self):
            return {"doubled": SchedulerEntry(f"{__name__}:Doubled", "Doubled")}

    module = ModuleType("doubled_scheduler")
    module.weft_schedulers = Elsewhere().weft_schedulers  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "doubled_scheduler", module)
    registry = Registry([EntryPoint("doubled", "doubled_scheduler", "weft")])
    entry = registry.scheduler("doubled")
    assert entry is not None
    assert entry.scheduler_class is Doubled
    assert registry.scheduler("halved") is None
    assert registry.schedulers() == {"doubled": entry}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"etta": 1.0}, "Did you mean 'eta'"),
        ({"eta": "much"}, "a number, found 'much'"),
        ({"clip_sample": 1}, "true or false, found 1"),
        ({"generator": 1}, "an option of 'ddim'"),
        ({"beta_schedule": "steep"}, "steep"),
        ({"timestep_spacing": "even"}, "even"),
    ],
)
def test_options_that_there_are_not(pipe, options, words: str) -> None:
    with pytest.raises(weft.UserError, match=words):
        pipe.generate("a toy", steps=2, scheduler="ddim", scheduler_options=options)


def test_those_with_a_fused_step_keep_it(pipe) -> None:
    from weft.core.sampling.fused_updates import updates

    fused = []
    for name in SCHEDULERS:
        scheduler = make_scheduler(name, pipe.scheduler)
        scheduler.set_timesteps(4)
        if updates(scheduler) is not None:
            fused.append(name)
    assert fused == ["ddim", "euler", "dpmpp_2m"]
