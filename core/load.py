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

from .api.family import Family
from .api.registry import registry
from .api.schedulers import scheduler_fields
from .checkpoints.config import plain_config
from .checkpoints.files import weights_file
from .checkpoints.tensors import fill_module, read_config, read_tensors
from .checkpoints.tokenizer import read_tokenizer
from .errors import UserError, did_you_mean
from .families import FAMILIES, family_of, family_of_file
from .pipeline import Pipeline

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
    card = registry().model(name)
    if card is not None:
        if not card.weights:
            read_as = " or ".join(family.card for family in FAMILIES.values())
            hint = f'Load your own file: weft.load("path/to/model.safetensors") is read as {read_as}.'
            raise UserError(f"model '{name}'", "a model with weights", "configurations only", hint)
        path = card.folder
    if path.is_dir():
        return _from_folder(name, path, device, dtype)
    if path.is_file():
        return _from_file(name, path, device, dtype)
    if name.count("/") == 1 and not path.suffix and not name.startswith((".", "/")):
        return _from_folder(name, fetched(name), device, dtype)
    cards = registry().models()
    hint = did_you_mean(name, cards)
    raise UserError(
        "model",
        f"a zoo name ({', '.join(cards) or 'none is installed'}), a folder or a file",
        f"'{name}'",
        hint,
    )


def _from_folder(name: str, folder: Path, device: str, dtype: torch.dtype) -> Pipeline:
    family = family_of(read_config(folder / "unet" / "config.json"))
    parts = {part: read_tensors(weights_file(folder / part)) for part in ("unet", "vae", *family.towers)}
    return _assemble(name, family, folder, folder, parts, device, dtype)


def _from_file(name: str, path: Path, device: str, dtype: torch.dtype) -> Pipeline:
    tensors = read_tensors(path)
    family = family_of_file(tensors)
    card = registry().model(family.card)
    if card is None:
        expected = f"the configurations '{family.card}' to read a single file with"
        raise UserError("model", expected, "none installed")
    base = card.folder
    configs = {part: read_config(base / part / "config.json") for part in ("unet", "vae", *family.towers)}
    return _assemble(name, family, base, None, family.split(tensors, configs, path.name), device, dtype)


def _assemble(
    name: str,
    family: Family,
    configs: Path,
    folder: Path | None,
    parts: dict[str, dict[str, Tensor]],
    device: str,
    dtype: torch.dtype,
) -> Pipeline:
    unet = _build(UNet2DConditionModel, configs / "unet")
    family.check(unet.config)
    vae = _build(AutoencoderKL, configs / "vae")
    towers = {part: _build_text(configs / part) for part in family.towers}
    for part, module in {"unet": unet, "vae": vae, **towers}.items():
        fill_module(module, family.renamed(part, parts[part]), f"model '{name}', {part}", dtype)
    pairs = {
        part: (_tokenizer(name, configs / family.towers[part], text), text.to(device))
        for part, text in towers.items()
    }
    scheduler = read_config(configs / "scheduler" / "scheduler_config.json")
    schedule = plain_config(scheduler, scheduler_fields(), "file 'scheduler/scheduler_config.json'")
    return Pipeline(name, family.text_encoder(pairs), unet.to(device), vae.to(device), schedule, folder)


def _tokenizer(name: str, folder: Path, text: Any) -> Any:
    """The tokenizer of a text transformer, which is given the positions that no file holds."""
    positions = text.embeddings.position_embedding.num_embeddings
    text.embeddings.position_ids = torch.arange(positions).expand(1, -1)  # still on meta
    tokenizer = read_tokenizer(folder)
    words = text.embeddings.token_embedding.num_embeddings
    if len(tokenizer) > words or tokenizer.model_max_length > positions:
        sizes = f"{len(tokenizer)} words and {tokenizer.model_max_length} tokens"
        expected = f"at most {words} words and {positions} tokens"
        raise UserError(f"model '{name}', {folder.name}", expected, sizes)
    return tokenizer


def _build(known: type[Any], folder: Path) -> Any:
    config = read_config(folder / "config.json")
    place = f"file '{folder.name}/config.json'"
    if config.get("_class_name", known.__name__) != known.__name__:
        raise UserError(f"{place}, field '_class_name'", known.__name__, repr(config["_class_name"]))
    fields = inspect.signature(known.__init__).parameters.keys() - {"self"}
    return _instance(lambda: known(**plain_config(config, fields, place)), known, place)


def _build_text(folder: Path) -> Any:
    config = read_config(folder / "config.json")
    place = f"file '{folder.name}/config.json'"
    kinds = config.get("architectures", ["CLIPTextModel"])
    if kinds not in (["CLIPTextModel"], ["CLIPTextModelWithProjection"]):
        raise UserError(f"{place}, field 'architectures'", "CLIPTextModel", repr(kinds)[:80])
    fields = plain_config(config, _TEXT_FIELDS, place)
    return _instance(lambda: CLIPTextModel(CLIPTextConfig(**fields)), CLIPTextModel, place)


def _instance(build: Callable[[], Any], known: type[Any], place: str) -> Any:
    with torch.device("meta"):
        try:
            return build()
        except UserError:
            raise
        except Exception as error:  # a class may fail in any way over values of an untrusted file
            raise UserError(place, f"a configuration of {known.__name__}", str(error)) from None


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
