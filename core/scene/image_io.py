"""Opening pictures that come from outside, with limits. Free of torch."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError
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
        return _rgb(_small_enough(source, place, "an open picture"))
    if not source.is_file():  # a pipe would be waited for
        raise UserError(place, "a file that exists", f"'{source}'")
    try:
        with Image.open(source, formats=FORMATS) as image:
            _small_enough(image, place, f"'{source}'")
            return _rgb(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(place, f"a picture ({', '.join(FORMATS)})", f"'{source}'") from None
    except (
        Exception
    ) as error:  # decoders raise what they like on crafted files: struct.error, IndexError, ...
        raise UserError(place, "a whole picture", f"'{source}', which cannot be read ({error})") from None


def _small_enough(image: Image.Image, place: str, name: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} in {name}"
        raise UserError(place, f"at most {MAX_PIXELS // 10**6} megapixels", size)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey in 8 bits; Pillow would clip it at 255."""
    grey = (np.asarray(image, dtype=np.float64) / 257.0).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
