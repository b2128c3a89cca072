"""A random model with an image tower and opened weights of `mask_location` and `subject_adapter`, for their tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from weft.core.load import load
from weft.core.pipeline import Pipeline
from weft.plugins.conditioners.mask_location.networks import MaskLocationNetworks
from weft.plugins.conditioners.subject_adapter.networks import SubjectAdapterNetworks
from weft.testing import random_model, random_tower, random_unet

PATCHES, PATCH_WIDTH = 16, 32
"""Of `random_tower`."""
LAYERS = r"attn[12]\.to_(q|k|v|out\.0)$|resnets\.0\.conv1$"
_folders: list[tempfile.TemporaryDirectory[str]] = []  # they live as long as the process


def opened(networks: nn.Module, seed: int = 0) -> nn.Module:
    """The networks with every parameter away from its start, so that each has an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            scale = 1.0 if name.startswith("null") or "alpha" in name else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return networks


def mask_networks(rank: int = 2) -> MaskLocationNetworks:
    return opened(MaskLocationNetworks.create(random_unet(), rank, LAYERS))  # type: ignore[return-value]


def adapter_networks(places: int = 3) -> SubjectAdapterNetworks:
    torch.manual_seed(0)
    made = SubjectAdapterNetworks.create(random_unet(), PATCH_WIDTH, 24, 0.5, places)
    return opened(made, seed=1)  # type: ignore[return-value]


def write(networks: nn.Module, path: Path) -> Path:
    """The networks as a file of weights."""
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in networks.state_dict().items()}, path)
    return path


@functools.cache
def pipeline() -> Pipeline:
    """The model, loaded once a process."""
    _folders.append(tempfile.TemporaryDirectory())
    folder = Path(_folders[-1].name)
    random_model(folder)
    random_tower(folder)
    write(mask_networks(), folder / "weft" / "mask_location.safetensors")
    write(adapter_networks(), folder / "weft" / "subject_adapter.safetensors")
    return load(folder, device="cpu")


def picture(seed: int, size: int = 20) -> Image.Image:
    """An image of noise."""
    pixels = torch.randint(0, 255, (size, size, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def bright(box: tuple[int, int, int, int], size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A mask that is bright in a box of pixels."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask
