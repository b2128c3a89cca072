"""Models of the Hugging Face hub: which of their files are fetched, and where they lie. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..errors import UserError
from .choose import chosen_weights
from .files import OWN, SUFFIXES

# as `huggingface_hub.utils.validate_repo_id`; what ends as a file does is one that is not there
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".json", ".yaml", ".yml", ".zip")
_TEXTS = (".json", ".txt")
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def is_hub_id(name: str) -> bool:
    """Whether a name that is no path may be one of the hub: ``owner/name``, with dots in it or not."""
    return bool(_ID.fullmatch(name)) and ".." not in name and not name.lower().endswith(_FILES)


def wanted_files(names: Iterable[str], variant: str | None = None, parts: Iterable[str] = PARTS) -> list[str]:
    """Of a repository's files those that loading reads.

    Args:
        names: with forward slashes.
        variant: of the weights, see `chosen_weights`.
        parts: folders of the diffusers layout.

    Raises:
        UserError: a part's weights are of no kind that is read, or it does not have the variant.
    """
    by_folder: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if len(path.parts) <= 2:
            by_folder.setdefault("" if len(path.parts) == 1 else path.parts[0], []).append(path.name)
    wanted = ["model_index.json"] if "model_index.json" in by_folder.get("", []) else []
    for part in parts:
        inside = by_folder.get(part, [])
        wanted += [f"{part}/{name}" for name in inside if name.endswith(_TEXTS)]
        if any(name.endswith(_FILES[:5]) for name in inside):
            wanted += [f"{part}/{name}" for name in _weights(inside, part, variant)]
    for own in OWN:
        wanted += [f"{own}/{name}" for name in by_folder.get(own, []) if name.endswith(SUFFIXES)]
    return wanted


def _weights(names: list[str], part: str, variant: str | None) -> list[str]:
    place = f"hub, folder '{part}'"
    if variant is not None and part != "unet":
        try:
            return chosen_weights(names, place, variant)
        except UserError:
            variant = None  # as `weights_files` has it
    return chosen_weights(names, place, variant)


def hub_folder(
    repository: str, download: bool = True, variant: str | None = None, parts: Iterable[str] = PARTS
) -> Path:
    """The folder of a hub id's files that loading reads; a download goes on where it was cut off, and shows a bar.

    Args:
        download: fetch what is not here yet; without, the network is not asked.
        variant: of the weights.
        parts: folders of the diffusers layout.

    Raises:
        UserError: the hub has no such id, it cannot be reached, or the files are not here and are not to be fetched.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if not download:
            return Path(snapshot_download(repository, local_files_only=True))
        try:
            names = HfApi().list_repo_files(repository)
        except HfHubHTTPError:
            raise
        except Exception:
            # no network, or it is switched off; every HTTP library has errors of its own: what is here may be enough
            return Path(snapshot_download(repository, local_files_only=True))
        return Path(snapshot_download(repository, allow_patterns=wanted_files(names, variant, parts)))
    except UserError:
        raise
    except Exception as error:
        if not download:
            hint = "`weft repro --download` fetches it, if you trust whoever made the image to choose it."
            raise UserError("model", "a model that is here", f"'{repository}'", hint) from None
        raise UserError(
            "model", "a folder, or a hub id that can be reached", f"'{repository}' ({error})"
        ) from None
