"""Writing grounding's weights alone, as the small file that GLIGEN's other readers take too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from weft.plugin import ModelView, UserError

from .keys import in_original_names
from .read import networks_of

if TYPE_CHECKING:
    from . import Grounding


def write(plugin: Grounding, model: ModelView, path: Path) -> Path:
    """See `Grounding.write`."""
    tensors = in_original_names(networks_of(plugin, model).state_dict(), model.unet)
    partial = path.with_name(f"{path.name}.partial")
    try:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, partial)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"file '{path}'", "a disk that takes it", error.strerror or str(error)) from None
    return path
