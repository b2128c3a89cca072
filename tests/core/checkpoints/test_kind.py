"""Whatever is given as a model is named for what it is, by loading and by `weft validate` alike."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import weft
from weft.core.checkpoints.kind import kind_of
from weft.core.runfile.read import read_run_file
from weft.core.runfile.strict_yaml import FileErrors

WHOLE = (
    "model.diffusion_model.input_blocks.0.0.weight",
    "first_stage_model.encoder.conv_in.weight",
    "cond_stage_model.transformer.text_model.embeddings.position_ids",
)
TENSORS = {
    "a Stable Diffusion 1.x checkpoint": WHOLE,
    "a Stable Diffusion 1.x checkpoint without a VAE": (WHOLE[0], WHOLE[2]),
    "a checkpoint without a text encoder": WHOLE[:2],
    "a LoRA": (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.alpha",
    ),
    "a LoRA ": ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",),
    "a LoRA  ": ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",),
    "a LoRA   ": ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",),
    "a ControlNet": ("control_model.input_blocks.0.0.weight",),
    "a ControlNet ": ("controlnet_down_blocks.0.weight", "conv_in.weight", "time_embedding.linear_1.weight"),
    "a Control-LoRA": ("lora_controlnet", "input_blocks.1.0.in_layers.2.up"),
    "a T2I-Adapter": ("adapter.body.0.in_conv.weight",),
    "an IP-Adapter": ("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"),
    "a textual inversion": ("emb_params",),
    "a textual inversion ": ("<cat-toy>",),
    "weights of GLIGEN": (
        "position_net.linears.0.weight",
        "input_blocks.1.1.transformer_blocks.0.fuser.linear.weight",
    ),
    "a UNet alone": (
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "down_blocks.0.resnets.0.conv1.weight",
    ),
    "a UNet alone ": WHOLE[:1],
    "a VAE": ("encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight"),
    "a CLIP model, or a part of one": ("text_model.embeddings.token_embedding.weight",),
    "a Stable Diffusion XL checkpoint": (*WHOLE[:2], "conditioner.embedders.1.model.ln_final.weight"),
    "a Stable Diffusion XL refiner": (*WHOLE[:2], "conditioner.embedders.0.model.ln_final.weight"),
    "a Stable Diffusion 2.x checkpoint": (*WHOLE[:2], "cond_stage_model.model.ln_final.weight"),
    "a Stable Diffusion 3 checkpoint": ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",),
    "a Flux checkpoint": ("double_blocks.0.img_attn.qkv.weight",),
    "a safetensors file of something else": ("model.layers.0.mlp.gate_proj.weight",),
}
LOADS = {"a Stable Diffusion 1.x checkpoint", "a Stable Diffusion 1.x checkpoint without a VAE"}
BYTES = {
    "an empty file": b"",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "an HTML page": b"\n<!DOCTYPE html><html><title>Sign in</title>",
    "a GGUF file": b"GGUF\x03\0\0\0" + bytes(100),
    "a zip archive, as pickled checkpoints are": b"PK\x03\x04" + bytes(100),
    "a pickled checkpoint": b"\x80\x02}q\0." + bytes(100),
    "an HDF5 file": b"\x89HDF\r\n" + bytes(100),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a file of something else": b"hello" * 20,
}


def refused(path: Path, name: str, tmp_path: Path) -> None:
    """By both doors, with the same words."""
    with pytest.raises(weft.UserError) as by_load:
        weft.load(path)
    run = tmp_path / "run.yaml"
    run.write_text(f"version: 1\nmodel: {json.dumps(str(path))}\nprompt: a toy\n")
    with pytest.raises(FileErrors) as by_validate:
        read_run_file(run)
    (error,) = by_validate.value.errors
    assert (error.expected, error.found, error.hint) == (
        by_load.value.expected,
        by_load.value.found,
        by_load.value.hint,
    )
    assert f"found {name}" in str(error)
    assert error.line == 2


@pytest.mark.parametrize("name", TENSORS)
def test_files_of_tensors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    save_file({tensor: np.zeros(2, np.float32) for tensor in TENSORS[name]}, path)
    kind = kind_of(path)
    assert kind.name == name.strip()
    assert kind.loads == (name in LOADS)
    if not kind.loads or kind.needs:
        refused(path, name.strip(), tmp_path)


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ""])
def test_other_files(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"given{suffix}"
    path.write_bytes(BYTES[name])
    if name == "a file of something else" and suffix:
        with pytest.raises(weft.UserError, match=r"whole safetensors file|[Pp]ickled"):
            weft.load(path)
        return
    assert kind_of(path).name == name
    refused(path, name, tmp_path)


FOLDERS: dict[str, Any] = {
    "a Stable Diffusion XL folder": {
        "model_index.json": {"_class_name": "StableDiffusionXLPipeline"},
        "unet/config.json": {},
    },
    "a Stable Diffusion XL folder ": {"unet/config.json": {"addition_embed_type": "text_time"}},
    "a folder of FluxPipeline": {"model_index.json": {"_class_name": "FluxPipeline"}},
    "a ControlNet": {"config.json": {"_class_name": "ControlNetModel"}},
    "a VAE": {"config.json": {"_class_name": "AutoencoderKL"}},
    "a UNet alone": {"config.json": {"_class_name": "UNet2DConditionModel"}},
    "a LoRA": {"adapter_config.json": {}},
    "a folder that holds one file of weights": {"x.safetensors": {}, "._x.safetensors": {}},
    "a folder of 2 files of weights": {"x.safetensors": {}, "y.safetensors": {}},
    "a folder of pickled checkpoints": {"x.ckpt": {}},
    "a folder of something else": {"notes.txt": {}},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    for file, content in FOLDERS[name].items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content))
    assert kind_of(folder).name == name.strip()
    refused(folder, name.strip(), tmp_path)


def test_a_folder_of_one_checkpoint_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "x.safetensors").write_bytes(b"")
    assert str(tmp_path / "given" / "x.safetensors") in kind_of(tmp_path / "given").hint


def test_what_lacks_a_vae_loads_with_one_named_beside_it(tmp_path: Path) -> None:
    save_file({name: np.zeros(2, np.float32) for name in (WHOLE[0], WHOLE[2])}, tmp_path / "x.safetensors")
    save_file({"encoder.conv_in.weight": np.zeros(2, np.float32)}, tmp_path / "vae.safetensors")
    run = tmp_path / "run.yaml"
    run.write_text("version: 1\nmodel: x.safetensors\nvae: vae.safetensors\nprompt: a toy\n")
    (read,) = read_run_file(run)
    assert read.load.vae == tmp_path / "vae.safetensors"


def test_a_broken_header_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 9) + b'{"a": 3}' + b" ")
    with pytest.raises(weft.UserError, match=r"tensor 'a'"):
        kind_of(tmp_path / "x.safetensors")


def test_a_model_without_weights_and_a_reference_that_is_no_image_are_told(tmp_path: Path) -> None:
    (tmp_path / "toy.png").write_text("hello")
    Image.new("RGB", (4, 4)).save(tmp_path / "star.gif")
    run = tmp_path / "run.yaml"
    run.write_text(
        "version: 1\nmodel: sd15\nprompt: a toy and a star\n"
        "subjects: [{phrase: toy, images: toy.png}, {phrase: star, images: star.gif}]\n"
    )
    with pytest.raises(FileErrors) as refusal:
        read_run_file(run)
    model, image = refusal.value.errors
    assert "configurations only" in str(model)
    assert (image.line, image.found) == (4, "'toy.png'")
