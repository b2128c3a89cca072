"""Loading a model: a zoo name, a folder in diffusers layout, a single Stable Diffusion 1.x file, or a hub id.

Only safetensors is read. Configurations are read as plain data, and only classes that are named here are built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from .api.plugin import ModelCard
from .api.registry import registry
from .api.text_encoder import TextEncoder
from .checkpoints.config import plain_config
from .checkpoints.files import PARTS, weights_file
from .checkpoints.single_file import split
from .checkpoints.tensors import fill_module, read_config, read_tensors
from .checkpoints.tokenizer import read_tokenizer
from .errors import UserError, did_you_mean
from .pipeline import Pipeline
from .sampling.schedulers import scheduler_fields

BASE = "sd15"
"""The model card whose configurations a single file is read with."""

_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)


def load(model: str | Path, *, device: str | None = None, dtype: torch.dtype | None = None) -> Pipeline:
    """A pipeline.

    Args:
        model: a name that `weft models` lists, a folder in diffusers layout, a Stable Diffusion 1.x ``.safetensors``
            file, or a hub id (``owner/name``), of which only JSON and safetensors files are fetched.
        device: where it runs; a GPU when there is one, by default.
        dtype: of parameters; float32 on the CPU and float16 on a GPU, by default.

    Raises:
        UserError: there is no such model, or it is not what its name says: a missing file, a class that is not known,
            a tensor of the wrong shape, a number that is not finite.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.float32 if torch.device(device).type == "cpu" else torch.float16)
    name, path = str(model), Path(model)
    cards = registry().models()
    if name in cards:
        if not cards[name].weights:
            hint = f'Load your own file: weft.load("path/to/model.safetensors") is read as {BASE}.'
            raise UserError(f"model '{name}'", "a model with weights", "configurations only", hint)
        path = cards[name].folder
    if path.is_dir():
        return _from_folder(name, path, device, dtype)
    if path.is_file():
        return _from_file(name, path, _base(cards), device, dtype)
    if name.count("/") == 1 and not path.suffix and not name.startswith((".", "/")):
        return _from_folder(name, fetched(name), device, dtype)
    hint = did_you_mean(name, cards)
    raise UserError(
        "model",
        f"a zoo name ({', '.join(cards) or 'none is installed'}), a folder or a file",
        f"'{name}'",
        hint,
    )


def _from_folder(name: str, folder: Path, device: str, dtype: torch.dtype) -> Pipeline:
    parts = {part: read_tensors(weights_file(folder / part)) for part in PARTS}
    return _assemble(name, folder, folder, parts, device, dtype)


def _from_file(name: str, path: Path, base: Path, device: str, dtype: torch.dtype) -> Pipeline:
    configs = {part: read_config(base / part / "config.json") for part in PARTS}
    return _assemble(name, base, None, split(read_tensors(path), configs, path.name), device, dtype)


def _assemble(
    name: str,
    configs: Path,
    folder: Path | None,
    parts: dict[str, dict[str, Tensor]],
    device: str,
    dtype: torch.dtype,
) -> Pipeline:
    unet = _build(UNet2DConditionModel, configs / "unet")
    vae = _build(AutoencoderKL, configs / "vae")
    text = _build_text(configs / "text_encoder")
    for part, module in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        fill_module(module, _renamed(part, parts[part]), f"model '{name}', {part}", dtype)
    positions = text.embeddings.position_embedding.num_embeddings
    text.embeddings.position_ids = torch.arange(positions).expand(1, -1)  # not in any file, so still on meta
    tokenizer = read_tokenizer(configs / "tokenizer")
    words = text.embeddings.token_embedding.num_embeddings
    if len(tokenizer) > words or tokenizer.model_max_length > positions:
        sizes = f"{len(tokenizer)} words and {tokenizer.model_max_length} tokens"
        raise UserError(f"model '{name}', tokenizer", f"at most {words} words and {positions} tokens", sizes)
    encoder = TextEncoder(tokenizer, text.to(device))
    scheduler = read_config(configs / "scheduler" / "scheduler_config.json")
    schedule = plain_config(scheduler, scheduler_fields(), "file 'scheduler/scheduler_config.json'")
    return Pipeline(name, encoder, unet.to(device), vae.to(device), schedule, folder)


def _build(known: type[Any], folder: Path) -> Any:
    config = read_config(folder / "config.json")
    place = f"file '{folder.name}/config.json'"
    if config.get("_class_name", known.__name__) != known.__name__:
        raise UserError(f"{place}, field '_class_name'", known.__name__, repr(config["_class_name"]))
    fields = inspect.signature(known.__init__).parameters.keys() - {"self"}
    return _made(lambda: known(**plain_config(config, fields, place)), known, place)


def _build_text(folder: Path) -> Any:
    config = read_config(folder / "config.json")
    place = f"file '{folder.name}/config.json'"
    kinds = config.get("architectures", ["CLIPTextModel"])
    if kinds not in (["CLIPTextModel"], ["CLIPTextModelWithProjection"]):
        raise UserError(f"{place}, field 'architectures'", "CLIPTextModel", repr(kinds)[:80])
    fields = plain_config(config, _TEXT_FIELDS, place)
    return _made(lambda: CLIPTextModel(CLIPTextConfig(**fields)), CLIPTextModel, place)


def _made(build: Callable[[], Any], known: type[Any], place: str) -> Any:
    with torch.device("meta"):
        try:
            return build()
        except UserError:
            raise
        except Exception as error:  # a class may stumble over a stranger's values in any way
            raise UserError(place, f"a configuration of {known.__name__}", str(error)) from None


def _renamed(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as the installed libraries have them, whichever version wrote the file."""
    if part == "text_encoder":
        names = {name: name.removeprefix("text_model.") for name in tensors}
        drop = ("position_ids", "text_projection.weight")
        return {new: tensors[name] for name, new in names.items() if not new.endswith(drop)}
    if part == "vae":
        renamed = {}
        for name, tensor in tensors.items():
            if ".attentions." in name:
                for old, new in _OLD_ATTENTION.items():
                    name = name.replace(old, new)
                if ".to_" in name and name.endswith("weight"):
                    tensor = tensor.flatten(1)  # 1x1 convolutions in the oldest files
            renamed[name] = tensor
        return renamed
    return tensors


_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def _base(cards: dict[str, ModelCard]) -> Path:
    if BASE not in cards:
        raise UserError("model", f"the configurations '{BASE}' to read a single file with", "none installed")
    return cards[BASE].folder


def fetched(repository: str) -> Path:
    """The folder of a hub id's JSON, text and safetensors files; they are downloaded where they are not there yet.

    Raises:
        UserError: the hub has no such id, or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repository, allow_patterns=["*/*.json", "*/*.txt", "*/*.safetensors", "*.json"])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            "model", "a folder, or a hub id that can be reached", f"'{repository}' ({error})"
        ) from None
