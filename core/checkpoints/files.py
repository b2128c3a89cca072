"""Which files a model is made of, and their digests. Free of torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..storage.atomic import digest

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


def weights_file(folder: Path) -> Path:
    """The safetensors file of one part of a diffusers layout: full precision when there is a choice.

    Raises:
        UserError: there is none, or more than one.
    """
    candidates = sorted(
        path
        for path in folder.glob("*.safetensors")
        if ".fp16" not in path.name and ".non_ema" not in path.name
    )
    candidates = candidates or sorted(folder.glob("*.fp16.safetensors"))
    if len(candidates) != 1:
        what = "none" if not candidates else ", ".join(path.name for path in candidates)
        raise UserError(f"folder '{folder}'", "one .safetensors file", what)
    return candidates[0]


def model_digests(model: Path) -> dict[str, str]:
    """SHA-256 of everything that loading reads, and of the weights of plugins, by path within the model.

    Args:
        model: a folder in diffusers layout, or a single file.

    Raises:
        UserError: a part has no weights, or a file cannot be read.
    """
    if not model.is_dir():
        return {model.name: digest(model)}
    paths = [weights_file(model / part) for part in PARTS]
    paths += [model / name for name in SETTINGS if (model / name).is_file()]
    paths += sorted(path for part in OWN for path in (model / part).glob("*") if path.suffix in SUFFIXES)
    return {path.relative_to(model).as_posix(): digest(path) for path in paths}
