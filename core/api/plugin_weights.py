"""A plugin's trained networks, read once for every model that they serve."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from ..checkpoints.files import weights_files
from ..checkpoints.gated import holds_grounding
from ..checkpoints.hub import hub_folder, is_hub_id
from ..checkpoints.tensors import read_all_tensors
from ..errors import UserError
from ..scene.paths import expanded
from .model_view import ModelView

M = TypeVar("M", bound=nn.Module)

KEPT = 8
"""Networks that are kept for one UNet; the one made first goes first."""

_networks: WeakKeyDictionary[nn.Module, dict[Hashable, nn.Module]] = WeakKeyDictionary()


def trained_networks(
    plugin: str,
    model: ModelView,
    weights: Path | None,
    build: Callable[[Mapping[str, Tensor], str], M],
    *sizes: Hashable,
    within_unet: bool = False,
) -> M:
    """The networks of a file, frozen, on the model's device.

    The same file, model and sizes give the very same modules again, so that rows of a batch that come from different
    scenes are gathered into one call. A file that has changed is read anew.

    Args:
        plugin: its name.
        model: the model.
        weights: see `weights_at`; what the model brings by default.
        build: makes them of (tensors, what an error calls the file).
        sizes: what ``build`` depends on beside the tensors and the model.
        within_unet: where the model's folder brings no file for the plugin, its UNet's may hold the weights.

    Raises:
        UserError: there is no such file, or it does not fit.
    """
    files = weights_at(weights, plugin) if weights is not None else _own_files(plugin, model, within_unet)
    key = (plugin, tuple(map(_state, files)), model.device, model.dtype, sizes)
    kept = _networks.setdefault(model.unet, {})
    if key not in kept:
        networks = build(read_all_tensors(files), f"weights of '{plugin}', file '{files[0].name}'")
        if len(kept) >= KEPT:
            del kept[next(iter(kept))]
        kept[key] = networks.to(model.device).eval().requires_grad_(False)
    return kept[key]  # type: ignore[return-value]  # the key names the plugin, and so its class


def weights_at(path: Path, plugin: str) -> list[Path]:
    """The files of weights that a path names for a plugin.

    Args:
        path: a ``.safetensors`` file; a folder with ``<plugin>.safetensors`` in it or in its ``weft/``, with one file
            or its shards, or of a whole model, whose UNet holds them; the hub's cache of such a folder
            (``models--owner--name``, of which ``refs/main`` is read); or a hub id.
        plugin: its name.

    Raises:
        UserError: a folder holds none, or the hub cannot be reached.
    """
    path = expanded(path)
    if not path.exists() and is_hub_id(path.as_posix()):
        path = hub_folder(path.as_posix(), parts=("unet",))
    if not path.is_dir():
        return [path]
    if (path / "snapshots").is_dir():
        path = _snapshot(path)
    for named in (path / f"{plugin}.safetensors", path / "weft" / f"{plugin}.safetensors"):
        if named.is_file():
            return [named]
    return weights_files(path / "unet" if (path / "unet").is_dir() else path)


def _snapshot(cache: Path) -> Path:
    """The revision that a repository's folder in the hub's cache calls main."""
    main = cache / "refs" / "main"
    revision = main.read_text().strip()[:64] if main.is_file() else ""
    if not re.fullmatch(r"[0-9a-f]+", revision) or not (cache / "snapshots" / revision).is_dir():
        raise UserError(f"folder '{cache}'", "a snapshot that 'refs/main' names", f"'{revision}'")
    return cache / "snapshots" / revision


def _own_files(plugin: str, model: ModelView, within_unet: bool) -> list[Path]:
    own = model.folder / "weft" / f"{plugin}.safetensors" if model.folder is not None else None
    if (
        within_unet
        and model.folder is not None
        and not (own and own.is_file())
        and holds_grounding(model.folder)
    ):
        return weights_files(model.folder / "unet", model.variant)
    return [model.weights_file(plugin)]


def _state(path: Path) -> tuple[str, int, int] | None:
    if not path.is_file():
        return None
    state = path.stat()
    return str(path.resolve()), state.st_mtime_ns, state.st_size
