"""Opening untrusted images, with limits. Free of torch."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError
from .image_formats import READ
from .scene import ImageSource

MAX_PIXELS = 32_000_000


def open_image(source: ImageSource, place: str) -> Image.Image:
    """An image as RGB, upright by its EXIF orientation. Transparent pixels are laid on white.

    Args:
        source: a file, or an open image, which may not be decoded yet.
        place: what the error names, for example ``"subject 'toy', field 'images'"``.

    Raises:
        UserError: the file is missing, of another format, truncated, or larger than 32 megapixels; or the open image
            has a mode that has no colours.
    """
    name = "an open image" if isinstance(source, Image.Image) else f"'{source}'"
    try:
        if isinstance(source, Image.Image):
            return _rgb(_small_enough(source, place, name), place)
        if not source.is_file():  # a pipe would be waited for
            raise UserError(place, "a file that exists", name)
        with Image.open(source, formats=READ) as image:
            return _rgb(ImageOps.exif_transpose(_small_enough(image, place, name)), place)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(place, f"an image ({', '.join(READ)})", name) from None
    # decoders raise what they like on crafted files: struct.error, IndexError, ...
    except Exception as error:
        raise broken_image(place, name, error) from None


def broken_image(place: str, name: str, error: Exception) -> UserError:
    """The error of an image that a decoder refuses."""
    return UserError(place, "a whole image", f"{name}, which cannot be read ({error})")


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels."""
    head = f"{image.mode} {image.width} {image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def _small_enough(image: Image.Image, place: str, name: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} in {name}"
        raise UserError(place, f"at most {MAX_PIXELS // 10**6} megapixels", size)
    return image


def _rgb(image: Image.Image, place: str) -> Image.Image:
    if image.mode in ("F", "LAB"):
        # Pillow has no conversion of the one, and none that keeps the range of the other
        raise UserError(place, "an image in a mode such as RGB, RGBA, L or P", f"mode '{image.mode}'")
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
