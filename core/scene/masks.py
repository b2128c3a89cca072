"""What an image means as a mask, by its mode: one meaning a mode, and the ambiguous is refused. Free of torch.

| mode | 1 is | 0 is |
|---|---|---|
| 1 | set | not set |
| L, and every mode of colours (RGB, P, CMYK, ...) whose pixels are grey | 255 | 0 |
| I;16, I | 65535 | 0 |
| F | 1.0 | 0.0 |
| transparency (RGBA, LA, PA, a transparent colour) | white that is seen | black, and what is not seen |
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import UserError
from .image_io import eight_bits, has_alpha, read_image
from .scene import ImageSource

DIMMEST = 32
"""Of 255: where no pixel is as bright, the numbers are labels, or 8 bits within 16, and no brightness."""
GREY = 32
"""How far, of 255, the channels of a grey pixel may lie apart: JPEG moves them a little."""
EXCEPTIONS = 0.01
"""Share of pixels that may be otherwise, such as those along edges."""

_HINT = "A mask is white where the subject is, and black elsewhere."


def mask_image(source: ImageSource, place: str) -> Image.Image:
    """A mask in mode L, upright, 255 where it is 1.

    Args:
        source: a file, or an open image.
        place: what the error names.

    Raises:
        UserError: as `weft.core.scene.image_io.open_image`, or the image says nothing certain: colours, labels,
            numbers out of range, or a dark shape or a photo on a transparent ground.
    """
    return read_image(source, place, _mask)


def _mask(image: Image.Image, place: str) -> Image.Image:
    if image.mode == "LAB":
        raise UserError(place, "a mask in greys", "mode 'LAB'", _HINT)
    if image.mode == "F":
        grey = _floats(image, place)
    elif image.mode.startswith("I"):
        grey = eight_bits(image, place)
        _check_range(np.asarray(image).max(initial=0) / 257, place)
    elif has_alpha(image):
        grey = _seen(image.convert("RGBA"), place)
    else:
        grey = _grey(image, place)
    _check_range(float(np.asarray(grey).max(initial=0)), place)
    return grey


def _floats(image: Image.Image, place: str) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 1:
        found = f"numbers from {values.min():g} to {values.max():g}"
        raise UserError(place, "a mask whose floats lie from 0 to 1", found, "Divide by the largest.")
    _check_range(255 * values.max(initial=0), place)
    return Image.fromarray((values * 255).round().astype(np.uint8))


def _grey(image: Image.Image, place: str) -> Image.Image:
    if image.mode in ("1", "L"):
        return image.convert("L")
    channels = np.asarray(image.convert("RGB"), dtype=np.int16)
    apart = channels.max(axis=2) - channels.min(axis=2) > GREY
    if apart.mean() > EXCEPTIONS:
        found = f"colours in {apart.mean():.0%} of its pixels"
        raise UserError(place, "a mask in greys", found, _HINT)
    return image.convert("RGB").convert("L")


def _seen(image: Image.Image, place: str) -> Image.Image:
    """Brightness on a black ground; where something is transparent, what is seen must be black or white."""
    black = Image.new("RGBA", image.size, "black")
    grey = _grey(Image.alpha_composite(black, image).convert("RGB"), place)
    alpha = np.asarray(image.getchannel("A"))
    seen = np.asarray(image.convert("L"))[alpha > 127]
    if alpha.min(initial=255) < 128 and seen.size:
        between = (seen > DIMMEST) & (seen < 255 - DIMMEST)
        if seen.max() <= DIMMEST or between.mean() > 0.5:
            found = "a dark shape" if seen.max() <= DIMMEST else "a picture"
            raise UserError(place, "white on a transparent ground", f"{found} on it", _HINT)
    return grey


def _check_range(highest: float, place: str) -> None:
    """Refuse what is almost black everywhere, by its brightest pixel of 255; all black is a mask of nothing."""
    if 0 < highest < DIMMEST:
        hint = "Numbers such as 0 and 1 are labels: multiply them, so that 255 (65535 in 16 bits) is the subject."
        raise UserError(place, "a mask whose brightest pixel is white", f"{highest:.3g} of 255", hint)
