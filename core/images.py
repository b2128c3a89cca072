"""Opening pictures that come from outside, with limits, and turning them into tensors and back."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .errors import UserError
from .scene import ImageSource

MAX_PIXELS = 32_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def open_image(source: ImageSource, place: str) -> Image.Image:
    """A picture as RGB, upright by its EXIF orientation. Transparent pixels are laid on white.

    Args:
        source: a file, or an open picture.
        place: what the error names, for example ``"subject 'toy', field 'images'"``.

    Raises:
        UserError: the file is missing, of another format, truncated, or larger than 32 megapixels.
    """
    if isinstance(source, Image.Image):
        return _rgb(source)
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} in '{source}'"
                raise UserError(place, f"at most {MAX_PIXELS // 10**6} megapixels", size)
            return _rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise UserError(place, "a file that exists", f"'{source}'") from None
    except UnidentifiedImageError:
        raise UserError(place, f"a picture ({', '.join(FORMATS)})", f"'{source}'") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(place, "a whole picture", f"'{source}', which cannot be read ({error})") from None


def open_mask(source: ImageSource, size: tuple[int, int], place: str) -> Float[Tensor, "h w"]:
    """A mask in [0, 1] (bright is 1) whose sides must be those of the image, ``size`` = (height, width).

    Raises:
        UserError: as `open_image`, or the mask has another size.
    """
    gray = open_image(source, place).convert("L")
    if (gray.height, gray.width) != size:
        raise UserError(place, f"a mask of {size[1]} x {size[0]} pixels", f"{gray.width} x {gray.height}")
    return torch.from_numpy(np.asarray(gray, dtype=np.float32) / 255.0)


def to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """RGB in [0, 1]."""
    return rearrange(
        torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0), "h w c -> c h w"
    )


def to_images(pixels: Float[Tensor, "s 3 h w"]) -> list[Image.Image]:
    """Pictures of pixels in [0, 1]; values outside are clipped."""
    array = (pixels.clamp(0, 1).float().cpu() * 255).round().to(torch.uint8)
    return [Image.fromarray(rearrange(picture, "c h w -> h w c").numpy()) for picture in array]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
