"""Random models with grounding, in diffusers' form and in ours, and an image of both, for the tests of grounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from open_clip.model import CLIP
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import weft
from weft.core.api.schedulers import make_scheduler
from weft.testing import random_model, random_unet

PROMPT = "a red star left of a blue car on grass"
# diffusers rounds boxes to float32, in float64 too: these it leaves as they are
BOXES = {"red star": (3 / 64, 19 / 64, 29 / 64, 51 / 64), "blue car": (0.5, 0.25, 1.0, 0.75)}
SCENE = weft.Scene(PROMPT, [weft.Subject(phrase, box=box) for phrase, box in BOXES.items()])
STEPS = 10
SIZE = {"height": 48, "width": 32}


def gated_unet(attention_type: str, **changes) -> UNet2DConditionModel:
    """diffusers' UNet around `random_unet`, with open gates and nulls away from zero."""
    plain = random_unet().state_dict()
    unet = random_unet(seed=5, attention_type=attention_type, **changes)
    own = {name: tensor for name, tensor in plain.items() if name in unet.state_dict()}
    if changes:
        del own["conv_in.weight"]
    unet.load_state_dict(own, strict=False)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in unet.modules():
            if isinstance(module, GatedSelfAttentionDense):
                module.alpha_attn.copy_(1.0 + torch.rand((), generator=generator))
                module.alpha_dense.copy_(-0.5 - torch.rand((), generator=generator))
        for name, parameter in unet.position_net.named_parameters():
            if name.startswith("null_"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return unet


def model_with(unet: UNet2DConditionModel, folder: Path) -> Path:
    """Write `random_model` with the whole of a gated UNet's tensors as its grounding weights."""
    random_model(folder)
    (folder / "weft").mkdir()
    save_file(unet.state_dict(), folder / "weft" / "grounding.safetensors")
    return folder


def peers_parts(folder: Path, unet: UNet2DConditionModel) -> dict:
    """What diffusers' pipelines are made of."""
    plain = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    names = ("vae", "text_encoder", "tokenizer", "scheduler", "safety_checker", "feature_extractor")
    return {name: getattr(plain, name) for name in names} | {"unet": unet}


def peer_of(kind: Any, folder: Path, unet: UNet2DConditionModel, **parts: Any) -> Any:
    """One of diffusers' pipelines, silent."""
    made = kind(**peers_parts(folder, unet), **parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def noise(seed: int, height: int = 12, width: int = 8) -> torch.Tensor:
    """What both begin with, in float32."""
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed))


def theirs(
    peer: Any, beta: float = 1.0, seed: int = 0, scheduler: str = "ddim", **options: Any
) -> torch.Tensor:
    """The latents of the peer's image of `SCENE`."""
    peer.scheduler = make_scheduler(scheduler, peer.scheduler.config)
    given: dict[str, Any] = {
        "prompt": PROMPT,
        "num_inference_steps": STEPS,
        "guidance_scale": 7.5,
        "gligen_scheduled_sampling_beta": beta,
        "gligen_phrases": list(BOXES),
        "gligen_boxes": [list(box) for box in BOXES.values()],
        "negative_prompt": "snow",
        "latents": noise(seed).to(peer.unet.dtype),
        "output_type": "latent",
    }
    return peer(**{**given, **SIZE, **options}).images[0]


def ours(
    pipeline: weft.Pipeline,
    *guidance: weft.Guidance,
    scene: weft.Scene = SCENE,
    grounding: weft.Grounding | None = None,
    beside: tuple[weft.Conditioner, ...] = (),
    seed: int = 0,
    scheduler: str = "ddim",
    **size: int,
) -> torch.Tensor:
    """The latents of our image, grounded, after some strategies and with classifier-free guidance."""
    return pipeline.generate(
        scene,
        [*beside, grounding or weft.Grounding()],
        [*guidance, weft.ClassifierFree(7.5, negative_prompt="snow")],
        steps=STEPS,
        seeds=[seed],
        scheduler=scheduler,
        **{**SIZE, **size},
    ).latents[0]


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference."""
    return float((one - other).abs().max())


TOWER = {
    "model_cfg": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        "text_cfg": {"context_length": 4, "vocab_size": 4, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}


def image_towers() -> tuple[dict[str, torch.Tensor], CLIPVisionModelWithProjection]:
    """A random image tower: open_clip's tensors, and transformers' model of the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        whole = CLIP(**TOWER["model_cfg"]).state_dict()
    tensors = {name: tensor for name, tensor in whole.items() if name.startswith("visual.")}
    size = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=32, **size)
    )
    renamed = {"visual_projection.weight": tensors["visual.proj"].T}
    for name, tensor in tensors.items():
        name = name.removeprefix("visual.")
        for old, new in _TRANSFORMERS.items():
            name = name.replace(old, new)
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                kind = name.rsplit("_", 1)[1]
                renamed["vision_model." + name.replace(f"in_proj_{kind}", f"{part}_proj.{kind}")] = piece
        else:
            renamed[f"vision_model.{name}"] = tensor
    wanted = model.state_dict()
    model.load_state_dict({name: renamed[name] for name in wanted})
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, model.eval()


_TRANSFORMERS = {
    "transformer.resblocks": "encoder.layers",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.": "self_attn.",
    "c_fc": "fc1",
    "c_proj": "fc2",
    "conv1": "embeddings.patch_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "class_embedding": "embeddings.class_embedding",
}
