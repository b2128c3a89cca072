"""A pipeline of diffusers that a user has in hand: no copy, the same images, given back as it was."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

import weft
from weft.core.jobs.reproduce import checked_run
from weft.core.provenance.write import read_provenance
from weft.testing import random_model


@pytest.fixture
def folder(tmp_path):
    return random_model(tmp_path / "model")


@pytest.fixture
def theirs(folder):
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def test_it_draws_what_the_folder_draws_and_is_given_back(folder, theirs) -> None:
    theirs.unet.train()
    theirs.text_encoder.requires_grad_(True)
    modules = [theirs.unet, theirs.vae, theirs.text_encoder]
    flags = [[part.training for part in module.modules()] for module in modules]
    wanted = [[one.requires_grad for one in module.parameters()] for module in modules]
    processors = dict(theirs.unet.attn_processors)
    pipe = weft.from_pipe(theirs)
    assert pipe.unet is theirs.unet
    scene = weft.Scene("a red ball", [weft.Subject("red ball")])
    for guidance in (["classifier_free"], ["attend_and_excite"]):
        drawn = pipe.generate(scene, guidance=guidance, steps=3)
        assert torch.equal(
            drawn.latents, weft.load(folder, device="cpu").generate(scene, guidance=guidance, steps=3).latents
        )
    with pytest.raises(weft.UserError):
        pipe.generate("a red ball", ["grounding"], steps=1)
    assert [[part.training for part in module.modules()] for module in modules] == flags
    assert [[one.requires_grad for one in module.parameters()] for module in modules] == wanted
    assert theirs.unet.attn_processors == processors


def test_the_file_says_what_it_cannot_know(theirs, tmp_path) -> None:
    (path,) = weft.from_pipe(theirs).generate("a red ball", steps=1).save(tmp_path / "out")
    with pytest.raises(weft.UserError, match="the model, which was given as a pipeline of diffusers"):
        checked_run(read_provenance(path), path.parent)


def test_what_would_be_left_out_is_refused(theirs) -> None:
    class Other:
        def __call__(self, *args, **options):
            raise NotImplementedError

    theirs.unet.enable_freeu(0.9, 0.2, 1.2, 1.4)
    with pytest.raises(weft.UserError, match="FreeU"):
        weft.from_pipe(theirs)
    theirs.unet.disable_freeu()
    theirs.unet.set_attn_processor(Other())
    with pytest.raises(weft.UserError, match="its own processor, found Other"):
        weft.from_pipe(theirs)
    with pytest.raises(weft.UserError, match="unet: expected a UNet2DConditionModel, found NoneType"):
        weft.from_pipe(object())
