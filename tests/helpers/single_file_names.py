"""The tensor names of a single Stable Diffusion 1.x file, written down from its layout, as the oracle of the loader."""

from __future__ import annotations

import re

from torch import Tensor, nn

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}


def original_names(unet: nn.Module, vae: nn.Module, text: nn.Module) -> dict[str, Tensor]:
    """All tensors of a full-size SD1.x pipeline under their original names."""
    tensors = {f"model.diffusion_model.{unet_name(name)}": value for name, value in unet.state_dict().items()}
    for name, value in vae.state_dict().items():
        # attention of the original autoencoder is written as 1x1 convolutions
        convolution = re.search(r"attentions\.0\.to_.*weight", name)
        tensors[f"first_stage_model.{vae_name(name)}"] = (
            value[:, :, None, None].clone() if convolution else value
        )
    for name, value in text.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{name}"] = value
    return {name: value.contiguous() for name, value in tensors.items()}


def unet_name(name: str) -> str:
    for ours, original in _ENDS.items():
        if name.startswith(ours + "."):
            return name.replace(ours, original, 1)
    part, rest = _unet_block(name)
    if ".resnets." in name:
        module, leaf = rest.split(".", 1)
        rest = f"{_RESNET[module]}.{leaf}"
    return f"{part}.{rest}"


def _unet_block(name: str) -> tuple[str, str]:
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, index, rest = found.groups()
        return f"middle_block.{2 * int(index) if kind == 'resnets' else 1}", rest
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    assert found, name
    way, block, kind, index, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op", rest.removeprefix("conv.")
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.{1 if block == 0 else 2}", rest
    number = 3 * block + index + 1 if way == "down" else 3 * block + index
    return f"{'input' if way == 'down' else 'output'}_blocks.{number}.{0 if kind == 'resnets' else 1}", rest


def vae_name(name: str) -> str:
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(
        r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.up.{3 - int(m[1])}.block.{m[2]}", name
    )
    name = re.sub(
        r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{3 - int(m[1])}.upsample", name
    )
    for ours, original in _VAE.items():
        name = name.replace(ours, original)
    return name
