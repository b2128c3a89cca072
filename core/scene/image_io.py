"""Opening untrusted images, with limits. Free of torch."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ..errors import UserError
from .image_formats import readable
from .paths import expanded
from .scene import ImageSource

MAX_PIXELS = 32_000_000
SIXTEEN_BITS = 65_535
EIGHT_BITS = 255


def open_image(source: ImageSource, place: str) -> Image.Image:
    """An image as RGB, upright by its EXIF orientation. Transparent pixels are laid on white.

    Args:
        source: a file, or an open image, which may not be decoded yet. A JPEG file of more than 32 megapixels is
            decoded at a half, a quarter or an eighth of its size.
        place: what the error names, for example ``"subject 'toy', field 'images'"``.

    Raises:
        UserError: the file is missing, of another format, truncated, or larger than 32 megapixels; or the image has a
            mode that has no colours, or numbers whose range is not known.
    """
    return read_image(source, place, _rgb)


def read_image(
    source: ImageSource, place: str, convert: Callable[[Image.Image, str], Image.Image]
) -> Image.Image:
    """An upright image after ``convert``, which is given the image in its own mode, and the place.

    Raises:
        UserError: as `open_image`, or from ``convert``.
    """
    name = "an open image" if isinstance(source, Image.Image) else f"'{source}'"
    with _decoders(source, place, name):
        if isinstance(source, Image.Image):
            return convert(_upright(source, place, name), place)
        with Image.open(expanded(source), formats=readable()) as image:
            _reduce(image)
            return convert(_upright(image, place, name), place)
    raise AssertionError("the errors of decoders are raised anew")


@contextmanager
def _decoders(source: ImageSource, place: str, name: str) -> Iterator[None]:
    """Calls Pillow's decoders within, whose errors become ours."""
    try:
        if isinstance(source, Path) and not expanded(source).is_file():  # a pipe would be waited for
            raise UserError(place, "a file that exists", name)
        with warnings.catch_warnings():
            # Pillow warns of sizes that are refused, or reduced
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(place, f"an image ({', '.join(readable())})", name, _other_format(name)) from None
    # decoders raise what they like on crafted files: struct.error, IndexError, ...
    except Exception as error:
        raise broken_image(place, name, error) from None


def check_image(source: Path, place: str) -> None:
    """Refuse a file that is no image of a format that is read, by its first bytes.

    Raises:
        UserError: as `open_image`, but for what decoding alone can find.
    """
    with _decoders(source, place, f"'{source.name}'"), Image.open(source, formats=readable()):
        pass


def broken_image(place: str, name: str, error: Exception) -> UserError:
    """The error of an image that a decoder refuses."""
    return UserError(place, "a whole image", f"{name}, which cannot be read ({error})")


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels."""
    head = f"{image.mode} {image.width} {image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def _upright(image: Image.Image, place: str, name: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} in {name}"
        factor = math.sqrt(MAX_PIXELS / (image.width * image.height))
        hint = f"Make it {int(image.width * factor)} x {int(image.height * factor)} or smaller."
        raise UserError(place, f"at most {MAX_PIXELS // 10**6} megapixels", size, hint)
    if image.format == "TIFF":
        # Pillow 13 maps the pixels of a file that it can name by the size that they have when they are turned
        assert isinstance(image, ImageFile)
        file, image.filename = image.filename, ""
        try:
            image.load()  # which turns it
        finally:
            image.filename = file
        return image.copy()
    return ImageOps.exif_transpose(image)


def _reduce(image: Image.Image) -> None:
    """Have an image decoded at a fraction of its size, where it is too large and its format can do that."""
    for factor in (2, 4, 8):
        if image.width * image.height <= MAX_PIXELS * factor**2:
            break
    if image.width * image.height > MAX_PIXELS:
        image.draft(image.mode, (image.width // factor, image.height // factor))


def _other_format(name: str) -> str:
    if name.lower().endswith((".heic'", ".heif'", ".avif'")):
        return "Save it as JPEG or PNG; or update Pillow (AVIF), or install and register pillow-heif (HEIC)."
    return "Save it as PNG or JPEG."


def _rgb(image: Image.Image, place: str) -> Image.Image:
    if image.mode in ("F", "LAB"):
        # Pillow has no conversion of the one, and none that keeps the range of the other
        raise UserError(place, "an image in a mode such as RGB, RGBA, L or P", f"mode '{image.mode}'")
    if image.mode.startswith("I"):
        return eight_bits(image, place).convert("RGB")
    if has_alpha(image):
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether some of its pixels may be transparent."""
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def eight_bits(image: Image.Image, place: str) -> Image.Image:
    """16-bit grey in 8 bits; Pillow would clip it at 255.

    Raises:
        UserError: an image of 32-bit numbers, which says no range of its own, has others than 16-bit ones have.
    """
    import numpy as np  # a tenth of a second, which reading run files need not wait for

    grey = np.asarray(image, dtype=np.float64)
    if image.mode == "I" and grey.size:
        lowest, highest = grey.min(), grey.max()
        if lowest < 0 or highest > SIXTEEN_BITS or 0 < highest <= EIGHT_BITS:
            found = f"32-bit numbers from {lowest:.0f} to {highest:.0f}"
            hint = "Make it an image of 8 bits: Image.fromarray(array.astype('uint8'))."
            raise UserError(place, f"grey from 0 to {SIXTEEN_BITS}", found, hint)
    return Image.fromarray((grey / 257.0).clip(0, 255).round().astype(np.uint8))
