"""grounding against diffusers' deprecated GLIGEN pipelines, the oracle: same weights, same noise, opened gates."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from diffusers import StableDiffusionGLIGENPipeline, StableDiffusionGLIGENTextImagePipeline
from diffusers.pipelines.stable_diffusion.clip_image_project_model import CLIPImageProjection
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor

import weft
from weft.core.load import load
from weft.core.schedulers import make_scheduler

_spec = importlib.util.spec_from_file_location(
    "grounding_models", Path(__file__).parent / "grounding_models.py"
)
assert _spec
assert _spec.loader
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

PROMPT = "a red star left of a blue car on grass"
BOXES = {"red star": (0.05, 0.3, 0.45, 0.8), "blue car": (0.5, 0.25, 1.0, 0.75)}
SCENE = weft.Scene(PROMPT, [weft.Subject(phrase, box=box) for phrase, box in BOXES.items()])
STEPS = 10
SIZE = {"height": 48, "width": 32}


def theirs(peer, beta: float = 1.0, seed: int = 0, scheduler: str = "ddim", **options) -> torch.Tensor:
    peer.scheduler = make_scheduler(scheduler, peer.scheduler.config)
    given = {
        "num_inference_steps": STEPS,
        "guidance_scale": 7.5,
        "gligen_scheduled_sampling_beta": beta,
        "gligen_phrases": list(BOXES),
        "gligen_boxes": [list(box) for box in BOXES.values()],
        "negative_prompt": "snow",
        "generator": torch.Generator().manual_seed(seed),
        "output_type": "latent",
    }
    return peer(PROMPT, **{**given, **SIZE, **options}).images[0]


def ours(pipeline, *guidance, scene=SCENE, grounding=None, seed: int = 0, scheduler: str = "ddim", **size):
    return pipeline.generate(
        scene,
        [grounding or weft.Grounding()],
        [*guidance, weft.ClassifierFree(7.5, negative_prompt="snow")],
        steps=STEPS,
        seeds=[seed],
        scheduler=scheduler,
        **{**SIZE, **size},
    ).latents[0]


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def peer_of(kind, folder: Path, unet, **parts):
    made = kind(**models.peers_parts(folder, unet), **parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


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


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.7])
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
    unet = models.gated_unet("gated-text-image")
    folder = models.model_with(unet, tmp_path_factory.mktemp("text_image"))
    tower, theirs_tower = models.image_towers()
    (folder / "open_clip").mkdir()
    (folder / "open_clip" / "open_clip_config.json").write_text(json.dumps(models.TOWER))
    save_file(tower, folder / "open_clip" / "open_clip_model.safetensors")
    project = CLIPImageProjection(32)
    save_file(project.state_dict(), folder / "projection.safetensors")
    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(
        size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    peer = peer_of(
        StableDiffusionGLIGENTextImagePipeline,
        folder,
        unet,
        processor=processor,
        image_encoder=theirs_tower,
        image_project=project,
    )
    return peer, load(folder, device="cpu"), folder / "projection.safetensors"


def picture(seed: int) -> Image.Image:
    noise = torch.randint(
        0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Image.fromarray(noise.numpy())


@pytest.mark.parametrize("mode", ["text", "image", "text_image"])
def test_text_and_image_boxes_are_equal(text_image, mode: str) -> None:
    peer, pipeline, projection = text_image
    images = [picture(0), picture(1) if mode == "image" else None]
    scene = weft.Scene(
        PROMPT,
        [
            weft.Subject(phrase, [image] if image else [], box=box)
            for (phrase, box), image in zip(BOXES.items(), images, strict=True)
        ],
    )
    expected = theirs(
        peer,
        gligen_images=None if mode == "text" else images,
        input_phrases_mask=0 if mode == "image" else None,
    )
    grounding = weft.Grounding(mode=mode, image_projection=projection)
    found = ours(pipeline, scene=scene, grounding=grounding)
    # the two image towers are different libraries', whose features differ by 5e-7, and latents here reach 20
    assert error(found, expected) <= 1e-5 * (1.0 if mode == "text" else float(expected.abs().max()))
    if mode != "text":
        other = weft.Scene(PROMPT, [weft.Subject(p, [picture(7)], box=box) for p, box in BOXES.items()])
        assert error(ours(pipeline, scene=other, grounding=grounding), expected) > 1e-3


@pytest.mark.parametrize("kind", ["gated", "gated-text-image"])
def test_inpainting_is_equal(kind: str, tmp_path, monkeypatch) -> None:
    """Square, because diffusers scales a box's x by the height; on the latents' grid, where both round alike.

    One convolution of 9 channels rounds unlike the sum of two, and the steps amplify it: the bound is relative.
    """
    unet = models.gated_unet(kind, in_channels=9)
    folder = models.model_with(unet, tmp_path)
    parts = {}
    pipeline_class = StableDiffusionGLIGENPipeline
    if kind != "gated":
        pipeline_class = StableDiffusionGLIGENTextImagePipeline
        parts = {"processor": None, "image_encoder": None, "image_project": None}
    peer = peer_of(pipeline_class, folder, unet, **parts)
    pipeline = load(folder, device="cpu")
    for vae in (peer.vae, pipeline.vae):
        with torch.no_grad():
            vae.quant_conv.bias[4:] = -1e4  # diffusers samples the source's latents: leave no variance
    peer.vae.sample_size = 32  # diffusers crops the source to this

    box = (0.25, 0.125, 0.75, 0.625)
    source = picture(3)
    scene = weft.Scene(PROMPT, [weft.Subject("red star", box=box)], source=source)
    square = {"height": 32, "width": 32}
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    monkeypatch.setattr(torch, "randn_like", lambda like, **_: torch.randn(like.shape, generator=generator))
    options = {"gligen_phrases": ["red star"], "gligen_boxes": [list(box)], "gligen_inpaint_image": source}
    expected = theirs(peer, latents=noise, generator=None, **options, **square)
    monkeypatch.undo()
    keep = weft.KeepSource(finish=False)
    found = ours(pipeline, keep, scene=scene, seed=4, **square)
    assert error(found, expected) <= 1e-5 * float(expected.abs().max())
    assert error(ours(pipeline, scene=scene, seed=4, **square), expected) > 1e-3  # the source is put back
    blank = weft.Scene(PROMPT, scene.subjects, source=picture(5))
    assert (
        error(ours(pipeline, scene=blank, seed=4, **square), ours(pipeline, scene=scene, seed=4, **square))
        > 1e-3
    )
