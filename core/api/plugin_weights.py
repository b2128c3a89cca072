"""A plugin's trained networks, read once for every model that they serve."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from ..checkpoints.tensors import read_tensors
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
) -> M:
    """The networks of a file, frozen, on the model's device.

    The same file, model and sizes give the very same modules again, so that rows of a batch that come from different
    scenes are gathered into one call. A file that has changed is read anew.

    Args:
        plugin: its name.
        model: the model.
        weights: a ``.safetensors`` file; the one that the model's folder brings by default.
        build: makes them of (tensors, what an error calls the file).
        sizes: what ``build`` depends on beside the tensors and the model.

    Raises:
        UserError: there is no such file, or it does not fit.
    """
    path = model.weights_file(plugin) if weights is None else weights
    state = path.stat() if path.is_file() else None
    file = (str(path.resolve()), state.st_mtime_ns, state.st_size) if state else None
    key = (plugin, file, model.device, model.dtype, sizes)
    kept = _networks.setdefault(model.unet, {})
    if key not in kept:
        networks = build(read_tensors(path), f"weights of '{plugin}', file '{path.name}'")
        if len(kept) >= KEPT:
            del kept[next(iter(kept))]
        kept[key] = networks.to(model.device).eval().requires_grad_(False)
    return kept[key]  # type: ignore[return-value]  # the key names the plugin, and so its class
