"""grounding against diffusers' deprecated GLIGEN pipelines, the oracle: same weights, same noise, opened gates."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import ClassVar

import pytest
import torch
from diffusers import StableDiffusionGLIGENPipeline, StableDiffusionGLIGENTextImagePipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion.clip_image_project_model import CLIPImageProjection
from helpers import grounding_models as models
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import CLIPImageProcessor

import weft
from weft.core.load import load

PROMPT, BOXES, SCENE, STEPS, SIZE = models.PROMPT, models.BOXES, models.SCENE, models.STEPS, models.SIZE
theirs, ours, error, peer_of = models.theirs, models.ours, models.error, models.peer_of
DTYPES = (torch.float32, torch.float64)


def rounds_no_worse(found: torch.Tensor, expected: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether float32 brought us no further from the float64 result than twice what it brought the peer."""
    return float((found - exact).norm()) <= 2.0 * float((expected - exact).norm())


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    unet = models.gated_unet("gated")
    folder = models.model_with(unet, tmp_path_factory.mktemp("text"))
    return peer_of(StableDiffusionGLIGENPipeline, folder, unet), load(folder, device="cpu")


@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "euler"])
def test_text_boxes_at_beta_1_are_equal_bit_for_bit(text, scheduler: str) -> None:
    peer, pipeline = text
    for seed in (0, 1):
        expected = theirs(peer, seed=seed, scheduler=scheduler)
        assert torch.equal(ours(pipeline, seed=seed, scheduler=scheduler), expected)
    plain = pipeline.generate(SCENE, steps=STEPS, scheduler=scheduler, **SIZE).latents[0]
    assert error(ours(pipeline, scheduler=scheduler), plain) > 0.1  # the gates are open


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.3, 0.7])
@pytest.mark.parametrize("first", [True, False], ids=["before the null", "after the null"])
def test_other_betas_are_delayed(text, beta: float, first: bool) -> None:
    peer, pipeline = text
    expected = theirs(peer, beta)
    delayed, free = weft.Delayed("grounding", (0.0, beta)), weft.ClassifierFree(7.5, negative_prompt="snow")
    result = pipeline.generate(
        SCENE, ["grounding"], [delayed, free] if first else [free, delayed], steps=STEPS, **SIZE
    )
    assert error(result.latents[0], expected) <= 1e-5
    if beta:
        assert error(ours(pipeline), expected) > 1e-3


@weft.record
class OffInTheNull(weft.Guidance):
    """Switches grounding off in the branches that do not read the scene's own prompt."""

    name: ClassVar[str] = "off_in_the_null"
    neutral: ClassVar = {}

    def rewrite(self, form, step):
        return form.map(lambda branch: branch if branch.prompt is None else branch.switched_off("grounding"))


def test_grounding_can_be_off_in_one_branch_alone(text) -> None:
    """What a switch on the modules cannot do: the null branch is the plain UNet's, the other is grounded."""
    _, pipeline = text
    free = weft.ClassifierFree(7.5, negative_prompt="snow")
    options = {"steps": 1, "attention": False, **SIZE}

    def after(conditioners, *guidance):
        return pipeline.generate(SCENE, conditioners, guidance, **options).latents

    null = weft.Scene("snow")
    plain_null = pipeline.generate(null, [], (), **options).latents
    # one step of DDIM is affine in the prediction
    grounded = after(["grounding"])
    expected = plain_null + 7.5 * (grounded - plain_null)
    mixed = after(["grounding"], free, OffInTheNull())
    assert torch.allclose(mixed, expected, atol=1e-4)
    assert error(mixed, after(["grounding"], free)) > 1e-3


@pytest.fixture(scope="module")
def text_image(tmp_path_factory):
    """By dtype, diffusers' pipeline and ours; and the matrix that turns images' features into phrases'."""
    folder = models.model_with(models.gated_unet("gated-text-image"), tmp_path_factory.mktemp("text_image"))
    tower, _ = models.image_towers()
    (folder / "open_clip").mkdir()
    (folder / "open_clip" / "open_clip_config.json").write_text(json.dumps(models.TOWER))
    save_file(tower, folder / "open_clip" / "open_clip_model.safetensors")
    project = CLIPImageProjection(32)
    save_file(project.state_dict(), folder / "projection.safetensors")
    side = {"height": 32, "width": 32}
    both = {}
    for dtype in DTYPES:
        peer = peer_of(
            StableDiffusionGLIGENTextImagePipeline,
            folder,
            models.gated_unet("gated-text-image"),
            processor=CLIPImageProcessor(
                size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
            ),
            image_encoder=models.image_towers()[1],
            image_project=copy.deepcopy(project),
        )
        both[dtype] = peer.to(dtype), load(folder, device="cpu", dtype=dtype)
    return both, folder / "projection.safetensors"


def picture(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    """Black and white in every channel, which no preprocessing rounds."""
    noise = torch.randint(
        0, 2, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Image.fromarray((noise * 255).numpy())


@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("mode", ["text", "image", "text_image"])
def test_text_and_image_boxes_are_equal(text_image, mode: str, beta: float) -> None:
    """To 1e-9 in float64; float32 adds its rounding, which the steps amplify on latents of up to 20.

    This pipeline of diffusers reads beta and does nothing with it, so its fuser is switched off for it.
    """
    both, projection = text_image
    images = [picture(0), picture(1) if mode == "image" else None]
    scene = weft.Scene(
        PROMPT,
        [
            weft.Subject(phrase, [image] if image else [], box=box)
            for (phrase, box), image in zip(BOXES.items(), images, strict=True)
        ],
    )
    grounding = weft.Grounding(mode=mode, image_projection=projection)
    expected, found = {}, {}
    for dtype, (peer, pipeline) in both.items():
        expected[dtype] = theirs(
            peer,
            gligen_images=None if mode == "text" else images,
            input_phrases_mask=0 if mode == "image" else None,
            callback=lambda i, t, x, peer=peer: peer.enable_fuser(i + 1 < beta * STEPS),
        )
        found[dtype] = ours(
            pipeline, weft.Delayed("grounding", (0.0, beta)), scene=scene, grounding=grounding
        )
        assert found[dtype].dtype == expected[dtype].dtype == dtype
    exact = expected[torch.float64]
    assert error(found[torch.float64], exact) <= 1e-9
    assert error(found[torch.float32], expected[torch.float32]) <= 1e-5 * float(exact.abs().max())
    assert rounds_no_worse(found[torch.float32], expected[torch.float32], exact)

    pipeline = both[torch.float64][1]
    if beta != 1.0:
        assert error(ours(pipeline, scene=scene, grounding=grounding), exact) > 1e-3
    if mode != "text":
        other = weft.Scene(PROMPT, [weft.Subject(p, [picture(7)], box=box) for p, box in BOXES.items()])
        assert error(ours(pipeline, scene=other, grounding=grounding), exact) > 1e-3


@pytest.fixture(scope="module", params=["gated", "gated-text-image"])
def inpainting(request, tmp_path_factory):
    """By dtype, diffusers' pipeline and ours."""

    def unet():
        return models.gated_unet(request.param, in_channels=9)

    folder = models.model_with(unet(), tmp_path_factory.mktemp("inpainting"))
    kind, parts = StableDiffusionGLIGENPipeline, {}
    if request.param != "gated":
        kind = StableDiffusionGLIGENTextImagePipeline
        parts = {"processor": None, "image_encoder": None, "image_project": None}
    return {
        dtype: (peer_of(kind, folder, unet(), **parts).to(dtype), load(folder, device="cpu", dtype=dtype))
        for dtype in DTYPES
    }


def mask_of_boxes(boxes, size: tuple[int, int]) -> torch.Tensor:
    """What diffusers means: there a box's x is scaled by the height, and its y by the width."""
    height, width = size
    mask = torch.ones(height, width)
    for left, top, right, bottom in boxes:
        mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = 0.0
    return mask


@pytest.mark.parametrize("width", [48, 32], ids=["square", "tall"])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_inpainting_is_equal(inpainting, beta: float, width: int, monkeypatch) -> None:
    """To 1e-9 in float64; in float32 one convolution of 9 channels rounds unlike the sum of two.

    diffusers crops every source to a square, and its mask fits no other image: both are mended for the tall one.
    There the widened convolution stays when beta switches the gates off. Here `delayed` switches all of grounding
    off, so the peer is given the UNet's own convolution for the rest.
    """
    box, height = (0.25, 0.125, 0.75, 0.625), 48
    source = picture(3, width, height)
    scene = weft.Scene(PROMPT, [weft.Subject("red star", box=box)], source=source)
    # diffusers samples the source's latents
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    expected, found = {}, {}
    for dtype, (peer, pipeline) in inpainting.items():
        peer.vae.sample_size = height  # diffusers crops the source to this
        if width != height:
            monkeypatch.setattr(peer, "target_size_center_crop", lambda image, side: image)
            monkeypatch.setattr(peer, "draw_inpaint_mask_from_boxes", mask_of_boxes)
        own, widened = pipeline.unet.conv_in, copy.deepcopy(peer.unet.conv_in.state_dict())
        alone = {"weight": F.pad(own.weight.detach(), (0, 0, 0, 0, 0, 5)), "bias": own.bias.detach()}

        def after(index, timestep, latents, peer=peer, alone=alone):
            if index + 1 == int(beta * STEPS):
                peer.enable_fuser(False)
                peer.unet.conv_in.load_state_dict(alone)

        generator = torch.Generator().manual_seed(4)
        start = torch.randn(1, 4, height // 4, width // 4, generator=generator).to(dtype)
        drawn = partial(torch.randn, generator=generator)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda like, drawn=drawn, **_: drawn(like.shape).to(like))
            expected[dtype] = theirs(
                peer,
                latents=start,
                gligen_phrases=["red star"],
                gligen_boxes=[list(box)],
                gligen_inpaint_image=source,
                callback=after,
                height=height,
                width=width,
            )
        peer.unet.conv_in.load_state_dict(widened)
        draw = partial(ours, pipeline, seed=4, height=height, width=width)
        keep, delayed = weft.KeepSource(finish=False), weft.Delayed("grounding", (0.0, beta))
        found[dtype] = draw(keep, delayed, scene=scene)
        assert found[dtype].dtype == expected[dtype].dtype == dtype
    exact = expected[torch.float64]
    assert error(found[torch.float64], exact) <= 1e-9
    assert error(found[torch.float32], expected[torch.float32]) <= 1e-5 * float(exact.abs().max())
    assert rounds_no_worse(found[torch.float32], expected[torch.float32], exact)

    assert error(draw(delayed, scene=scene), exact) > 1e-3  # the source is put back
    if beta != 1.0:
        assert error(draw(keep, scene=scene), exact) > 1e-3
    other = weft.Scene(PROMPT, scene.subjects, source=picture(5, width, height))
    assert error(draw(keep, delayed, scene=other), exact) > 1e-3
