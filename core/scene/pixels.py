"""Turning images into tensors and back."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from .image_io import open_image as open_image
from .masks import mask_image
from .region import Resize
from .scene import ImageSource


def open_mask(source: ImageSource, size: tuple[int, int], place: str) -> Float[Tensor, "h w"]:
    """A mask in [0, 1] (bright is 1) whose sides must be those of the image, ``size`` = (height, width).

    Raises:
        UserError: as `weft.core.scene.masks.mask_image`, or the mask has another size.
    """
    gray = mask_image(source, place)
    if (gray.height, gray.width) != size:
        raise UserError(place, f"a mask of {size[1]} x {size[0]} pixels", f"{gray.width} x {gray.height}")
    return torch.from_numpy(np.asarray(gray, dtype=np.float32) / 255.0)


def to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """RGB in [0, 1]."""
    return rearrange(
        torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0), "h w c -> c h w"
    )


def to_images(pixels: Float[Tensor, "s 3 h w"]) -> list[Image.Image]:
    """Images of pixels in [0, 1]; values outside are clipped."""
    array = (pixels.clamp(0, 1).float().cpu() * 255).round().to(torch.uint8)
    return [Image.fromarray(rearrange(picture, "c h w -> h w c").numpy()) for picture in array]


def resize(
    masks: Float[Tensor, "r _h _w"], grid: tuple[int, int], how: Resize = "area"
) -> Float[Tensor, "r h w"]:
    """Masks of the whole image at a feature map's size; by area, coverage is kept."""
    if tuple(masks.shape[-2:]) == grid:
        return masks
    wide = masks[:, None].to(torch.promote_types(masks.dtype, torch.float32))
    return F.interpolate(wide, size=grid, mode=how)[:, 0]
