"""Loading a model: a zoo name, a folder in diffusers layout, a single Stable Diffusion 1.x file, or a hub id.

Only safetensors is read. Configurations are read as plain data, and only classes that are named here are built.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from .api.family import Family
from .api.load_settings import OTHER_ARGUMENTS, LoadSettings, dtype_name, prediction_name
from .api.plugin import ModelCard
from .api.registry import registry
from .api.schedulers import own_scheduler, scheduler_fields
from .checkpoints.config import plain_config
from .checkpoints.files import model_files, own_folder, vae_at, weights_files
from .checkpoints.gated import holds_grounding, unet_configuration, without_grounding
from .checkpoints.hub import hub_folder, is_hub_id
from .checkpoints.kind import check_model
from .checkpoints.noise_schedule import folder_schedule, marked
from .checkpoints.tensors import fill_module, read_all_tensors, read_config, read_metadata, read_tensors
from .checkpoints.tokenizer import read_tokenizer
from .checkpoints.wide_input import convolution, narrowed
from .errors import UserError, did_you_mean
from .families import FAMILIES, family_of, family_of_file
from .pipeline import Pipeline
from .sampling.diffusers_parts import check_parts
from .sampling.lent import Lent
from .sampling.surroundings import in_own_surroundings
from .scene.paths import expanded
from .storage.atomic import digest
from .storage.file_digests import FileDigests
from .unet.forward import UNetForward

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


@in_own_surroundings
def load(
    model: str | Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
    variant: str | None = None,
    vae: str | Path | None = None,
    vae_slicing: bool = False,
    vae_tiling: bool = False,
    prediction_type: str | None = None,
    **others: Any,
) -> Pipeline:
    """A pipeline.

    Args:
        model: a name that `weft models` lists, a folder in diffusers layout, a Stable Diffusion 1.x ``.safetensors``
            file, or a hub id (``owner/name``), of which only the files that are read are fetched.
        device: where it runs; a GPU when there is one, by default.
        dtype: of parameters; float32 on the CPU and float16 on a GPU, by default.
        variant: of the files of weights, such as ``fp16``; by default those of full precision where there is a choice.
        vae: a file or a folder of another autoencoder, which checkpoints without one need.
        vae_slicing: decode the images of a batch one by one, in less memory.
        vae_tiling: decode large images in tiles, in less memory; seams may be seen.
        prediction_type: what the UNet was trained to predict, ``epsilon``, ``v_prediction`` or ``sample``, where the
            model's files do not say, or not what is right. A folder says it in its scheduler's configuration, a single
            file by the tensors ``v_pred`` and ``ztsnr`` or by ``modelspec.prediction_type`` in its metadata.
        others: names that other programs have for these, each refused with a hint.

    Raises:
        UserError: there is no such model, or it is not what its name says: a missing file, a class that is not known,
            a tensor of the wrong shape, a number that is not finite, a setting that the engine does not carry out.
    """
    for other in others:
        known = [field.name for field in dataclasses.fields(LoadSettings)]
        hint = OTHER_ARGUMENTS.get(other) or did_you_mean(other, known)
        raise UserError("load", f"one of the settings {', '.join(known)}", f"'{other}'", hint)
    settings = LoadSettings(
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        dtype=None if dtype is None else dtype_name(dtype),
        variant=variant,
        vae=None if vae is None else expanded(Path(vae)),
        vae_slicing=vae_slicing,
        vae_tiling=vae_tiling,
        prediction_type=prediction_name(prediction_type),
    )
    name, path = str(model), expanded(Path(model))
    card = registry().model(name)
    if card is not None:
        if not card.weights:
            read_as = " or ".join(family.card for family in FAMILIES.values())
            hint = f'Load your own file: weft.load("path/to/model.safetensors") is read as {read_as}.'
            raise UserError(f"model '{name}'", "a model with weights", "configurations only", hint)
        path = card.folder
        _check_pinned(name, card)
    elif path.exists():
        check_model(path, "model", vae is not None)
    if path.is_dir():
        return _from_folder(name, path, settings)
    if path.is_file():
        return _from_file(name, path, settings)
    if is_hub_id(name):
        return _from_folder(name, hub_folder(name, variant=variant), settings)
    cards = registry().models()
    hint = did_you_mean(name, cards)
    raise UserError(
        "model",
        f"a zoo name ({', '.join(cards) or 'none is installed'}), a folder or a file",
        f"'{name}'",
        hint,
    )


def from_pipe(pipe: Any) -> Pipeline:
    """A pipeline over the parts of one of diffusers, without a copy.

    It is given back as it was after every call: training flags, ``requires_grad``, processors. Images that are drawn
    with it do not say which files the model came from, so `weft repro` cannot draw them again, and says so.

    Args:
        pipe: of Stable Diffusion 1.x or 2.x, such as a `StableDiffusionPipeline`.

    Raises:
        UserError: it is another one; or something was installed that would be left out: a LoRA, an image adapter,
            offloading, FreeU.
    """
    check_parts(pipe)
    family = family_of(pipe.unet.config)
    family.check(pipe.unet.config)
    UNetForward(pipe.unet)  # refuses what it does not carry out
    schedule = dict(pipe.scheduler.config)
    own_scheduler(schedule)
    text = family.text_encoder({"text_encoder": (pipe.tokenizer, pipe.text_encoder)})
    lent = Lent([pipe.text_encoder, pipe.unet, pipe.vae])
    return Pipeline(type(pipe).__name__, text, pipe.unet, pipe.vae, schedule, lent=lent)


def _check_pinned(name: str, card: ModelCard) -> None:
    """Refuse a model that ships with a distribution and whose files are not those that it shipped with.

    Raises:
        UserError: a file is missing, or another one.
    """
    for file, wanted in card.sha256:
        if digest(card.folder / file) != wanted:
            hint = "`weft models` checks all of them; install the distribution again."
            raise UserError(
                f"model '{name}', file '{file}'", f"SHA-256 {wanted[:12]}...", "another one", hint
            )


def _from_folder(name: str, folder: Path, settings: LoadSettings) -> Pipeline:
    unet = unet_configuration(folder)
    family = family_of(unet)
    # before they are read, and others take their places
    files = FileDigests(model_files(folder, settings.variant))
    read = {"unet", "vae", *family.towers} - ({"vae"} if settings.vae is not None else set())
    parts = {part: read_all_tensors(weights_files(folder / part, settings.variant)) for part in sorted(read)}
    parts["unet"] = without_grounding(parts["unet"])
    schedule = folder_schedule(folder, scheduler_fields())
    return _assemble(name, family, folder, folder, files, parts, schedule, settings)


def _from_file(name: str, path: Path, settings: LoadSettings) -> Pipeline:
    files = FileDigests(model_files(path))
    tensors = read_tensors(path)
    family = family_of_file(tensors)
    card = registry().model(family.card)
    if card is None:
        expected = f"the configurations '{family.card}' to read a single file with"
        raise UserError("model", expected, "none installed")
    base = card.folder
    configs = {part: read_config(base / part / "config.json") for part in ("unet", "vae", *family.towers)}
    without = () if settings.vae is None else ("vae",)
    parts = family.split(tensors, configs, path.name, without)
    schedule = marked(folder_schedule(base, scheduler_fields()), tensors, read_metadata(path))
    pipe = _assemble(name, family, base, None, files, parts, schedule, settings)
    return replace(pipe, own_folder=own_folder(path))


def _assemble(
    name: str,
    family: Family,
    configs: Path,
    folder: Path | None,
    files: FileDigests,
    parts: dict[str, dict[str, Tensor]],
    schedule: dict[str, Any],
    settings: LoadSettings,
) -> Pipeline:
    assert settings.device is not None
    device, dtype = settings.device, _dtype(settings)
    vae_folder = configs / "vae"
    if settings.vae is not None:
        vae_folder, vae_files = vae_at(settings.vae, vae_folder)
        parts["vae"] = read_all_tensors(vae_files)
    vae = _build(AutoencoderKL, vae_folder)
    configuration, surplus = unet_configuration(configs), None
    if not holds_grounding(configs):
        latents = int(vae.config["latent_channels"])
        parts["unet"], surplus = narrowed(parts["unet"], latents)
        if surplus is not None:
            configuration = _of_latents(configuration, latents, surplus.shape[1], folder is None)
    unet = _build(UNet2DConditionModel, configs / "unet", configuration)
    family.check(unet.config)
    towers = {part: _build_text(configs / part) for part in family.towers}
    for part, module in {"unet": unet, "vae": vae, **towers}.items():
        fill_module(module, family.renamed(part, parts.pop(part)), f"model '{name}', {part}", dtype)
    if settings.vae_slicing:
        vae.enable_slicing()
    if settings.vae_tiling:
        vae.enable_tiling()
    pairs = {
        part: (_tokenizer(name, configs / family.towers[part], text), text.to(device))
        for part, text in towers.items()
    }
    own_scheduler(schedule)  # refuses a class that it cannot be drawn with
    if settings.prediction_type is not None:
        schedule["prediction_type"] = settings.prediction_type
    text = family.text_encoder(pairs)
    unet, vae = unet.to(device), vae.to(device)
    extra = None if surplus is None else convolution(surplus, unet.conv_in)
    return Pipeline(name, text, unet, vae, schedule, folder, files=files, loaded=settings, extra_input=extra)


def _of_latents(config: dict[str, Any], latents: int, more: int, single_file: bool) -> dict[str, Any]:
    """The configuration of a UNet with wide input as that of one that reads the latents alone.

    Raises:
        UserError: it says another number of channels than its weights have; one that stands for a single file may.
    """
    said = config.get("in_channels", 4)
    if said != latents + more and not single_file:
        place = "file 'unet/config.json', field 'in_channels'"
        raise UserError(place, f"{latents + more}, as many as the weights read", repr(said)[:60])
    return {**config, "in_channels": latents}


def _dtype(settings: LoadSettings) -> torch.dtype:
    assert settings.device is not None
    if settings.dtype is None:
        return torch.float32 if torch.device(settings.device).type == "cpu" else torch.float16
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return dtype


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


def _build(known: type[Any], folder: Path, config: Mapping[str, Any] | None = None) -> Any:
    config = config or read_config(folder / "config.json")
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
