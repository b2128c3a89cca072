"""Open images that need their files no more, and as a file keeps them. Free of torch."""

from __future__ import annotations

from PIL import Image

from .image_io import SIXTEEN_BITS, read_image
from .scene import ImageSource


def decoded_image(source: ImageSource, place: str) -> Image.Image:
    """An upright image in its own mode, which needs its file no more.

    Raises:
        UserError: as `open_image`.
    """
    return read_image(source, place, lambda image, _: image)


def portable_image(image: Image.Image) -> Image.Image:
    """An open image as a PNG file can hold it, so that it is read from there as it would be read here."""
    whole = decoded_image(image, "an open image")
    if whole.mode == "F":  # only masks are
        from .masks import mask_image

        return mask_image(whole, "an open image")
    if whole.mode == "I":
        import numpy as np  # a tenth of a second, which commands that draw nothing need not wait for

        return Image.fromarray(np.asarray(whole).clip(0, SIXTEEN_BITS).astype(np.uint16))
    kept = whole.mode in ("RGB", "RGBA", "L", "LA", "1", "I;16") and "transparency" not in whole.info
    return whole if kept else whole.convert("RGBA")
