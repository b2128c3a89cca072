"""Which files a model is made of, and their digests. Free of torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..storage.atomic import digest
from .choose import chosen_weights

PARTS = ("unet", "vae", "text_encoder")
SETTINGS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/added_tokens.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
)

OWN = ("weft", "open_clip")
"""Folders of a model that Weft adds to the diffusers layout: the weights of plugins, and an image tower."""

SUFFIXES = (".safetensors", ".json")


def weights_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors file of one part of a diffusers layout, or its shards; see `chosen_weights`.

    A part that does not have the variant is read without one, as in diffusers, but for the UNet.

    Raises:
        UserError: there is none, or which one is meant is not clear.
    """
    place = f"folder '{folder}'"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if variant is not None and folder.name != "unet":
        try:
            return [folder / name for name in chosen_weights(names, place, variant)]
        except UserError:
            variant = None
    return [folder / name for name in chosen_weights(names, place, variant)]


def model_files(model: Path, variant: str | None = None) -> dict[str, Path]:
    """Everything that loading reads, and the weights of plugins, by path within the model.

    Args:
        model: a folder in diffusers layout, or a single file.
        variant: of its weights; see `chosen_weights`.

    Raises:
        UserError: a part has no weights.
    """
    if not model.is_dir():
        return {model.name: model} | own_files(own_folder(model))
    paths = [path for part in PARTS for path in weights_files(model / part, variant)]
    paths += [model / name for name in SETTINGS if (model / name).is_file()]
    return {path.relative_to(model).as_posix(): path for path in paths} | own_files(model)


def own_folder(model: Path) -> Path:
    """Where the folders `OWN` of a model lie: in its own; of a single file, in one of its name beside it."""
    return model if model.is_dir() else model.with_suffix("")


def own_files(model: Path) -> dict[str, Path]:
    """What is in the folders `OWN` of a model, which plugins read when they are used, by path within the model."""
    paths = sorted(path for part in OWN for path in (model / part).glob("*") if path.suffix in SUFFIXES)
    return {path.relative_to(model).as_posix(): path for path in paths}


def model_digests(model: Path, variant: str | None = None) -> dict[str, str]:
    """SHA-256 of every one of `model_files`.

    Raises:
        UserError: a part has no weights, or a file cannot be read.
    """
    return {name: digest(path) for name, path in model_files(model, variant).items()}


def vae_at(path: Path, otherwise: Path) -> tuple[Path, list[Path]]:
    """The folder of an autoencoder's configuration, and the files of its weights.

    Args:
        path: a file; a folder of the network; or one of a model, whose own is meant.
        otherwise: the folder of the configuration that a single file is read with.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return otherwise, [path]
    folder = path / "vae" if (path / "vae").is_dir() else path
    if not (folder / "config.json").is_file():
        raise UserError("field 'vae'", "a file or a folder of an autoencoder", f"'{path}'")
    return folder, weights_files(folder)
