"""The trained parts as one folder in diffusers layout, the CLIP also in open_clip form, and hashes of all files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from open_clip.model import CLIP
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from .tokenizer import load
from .unet import SCHEDULE

_LAYER = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}


class ExportRecipe(BaseModel):
    """Recipe of the stage ``export``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(description="the folder to write, relative to the working directory")
    half: bool = Field(True, description="store float16 weights")


def text_encoder_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's text tower under the names of transformers' CLIPTextModel.

    open_clip keeps q, k and v in one ``in_proj`` matrix, [3 d, d]; transformers has three, [d, d].
    """
    weights = {
        "embeddings.token_embedding.weight": state["token_embedding.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
        "final_layer_norm.weight": state["ln_final.weight"],
        "final_layer_norm.bias": state["ln_final.bias"],
    }
    for name, value in state.items():
        if not name.startswith("transformer.resblocks."):
            continue
        number, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
        layer = f"encoder.layers.{number}."
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                weights[f"{layer}self_attn.{part}_proj.{kind}"] = piece.contiguous()
        else:
            ours, theirs = next((a, b) for a, b in _LAYER.items() if rest.startswith(a))
            weights[layer + theirs + rest.removeprefix(ours)] = value
    return weights


def text_encoder(clip: CLIP, config: dict[str, Any]) -> CLIPTextModel:
    """``clip``'s text tower as transformers' CLIPTextModel; ``config`` is the open_clip model config."""
    text = config["text_cfg"]
    end = text["vocab_size"] - 1
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=text["vocab_size"],
            hidden_size=text["width"],
            intermediate_size=4 * text["width"],
            projection_dim=config["embed_dim"],
            num_hidden_layers=text["layers"],
            num_attention_heads=text["heads"],
            max_position_embeddings=text["context_length"],
            hidden_act="quick_gelu" if config.get("quick_gelu") else "gelu",
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    prefix = "text_model." if any(k.startswith("text_model.") for k in model.state_dict()) else ""
    model.load_state_dict({prefix + k: v for k, v in text_encoder_weights(clip.state_dict()).items()})
    return model.eval()


def build(
    recipe: ExportRecipe,
    tokenizer: Path,
    clip: CLIP,
    clip_config: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    scaling_factor: float,
) -> None:
    """Write the folder; its README.md and curves are left as they are, its hashes are made anew."""
    folder = recipe.folder
    dtype = torch.float16 if recipe.half else torch.float32
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer.resolve() != (folder / "tokenizer").resolve():
        shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    load(folder / "tokenizer")
    config: dict[str, Any] = json.loads(clip_config.read_text(encoding="utf-8"))
    vae.register_to_config(scaling_factor=scaling_factor, force_upcast=False)
    parts = {"text_encoder": text_encoder(clip, config["model_cfg"]), "vae": vae, "unet": unet}
    for name, part in parts.items():
        nn.Module.to(part, dtype).save_pretrained(str(folder / name))
    # a UNet that went on from an exported one remembers the folder
    _update(folder / "unet" / "config.json", {}, without="_name_or_path")
    # transformers loads in the type of this field: half the bytes on disk, float32 in memory, as diffusers does.
    _update(folder / "text_encoder" / "config.json", {"dtype": "float32"})
    PNDMScheduler(**SCHEDULE, skip_prk_steps=True, steps_offset=1).save_pretrained(str(folder / "scheduler"))
    # As in Stable Diffusion 1.x: PNDM knows no clip_sample, but a DDIM made from this config must not clip.
    _update(folder / "scheduler" / "scheduler_config.json", {"clip_sample": False})
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    both = folder / "open_clip"
    both.mkdir(exist_ok=True)
    shutil.copyfile(clip_config, both / "open_clip_config.json")
    weights = {k: v.to(dtype).contiguous() for k, v in clip.state_dict().items()}
    save_file(weights, str(both / "open_clip_model.safetensors"))
    write_hashes(folder)


def _update(file: Path, facts: dict[str, Any], without: str = "") -> None:
    data = json.loads(file.read_text(encoding="utf-8")) | facts
    data.pop(without, None)
    file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def write_hashes(folder: Path) -> None:
    """SHA256SUMS, in the format of sha256sum, of every file in ``folder`` that a program reads (not the card)."""
    card = {"SHA256SUMS", "README.md", "curves.png"}
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name not in card)
    lines = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(folder).as_posix()}" for f in files
    ]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")
