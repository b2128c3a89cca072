"""Does one shape mean the same in every mode and file of a mask, and one photo in every mode, file and orientation?

python benchmarks/robustness/odd_images.py     # a minute, no torch

Every attempt must be read as it should, or be refused by our own error: what is read otherwise counts as silently
different.
"""

from __future__ import annotations

import io
import itertools
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from robustness_helpers.figures import keep

from weft import UserError
from weft.core.scene.image_formats import readable
from weft.core.scene.image_io import has_alpha, open_image
from weft.core.scene.masks import mask_image
from weft.core.scene.portable import decoded_image, portable_image

SHAPE = np.zeros((16, 24), bool)
SHAPE[3:11, 5:19] = True
WHITE = Image.fromarray((SHAPE * 255).astype(np.uint8))
LOSSY = ("JPEG", "AVIF", "GIF")
NEAR = 40
"""Of 255, what lossy formats may change on average."""
TURNS = range(1, 9)
ORIENTATION = 0x0112


def masks() -> Iterator[tuple[str, Image.Image, bool]]:
    """(what it is, an image, whether it says the shape clearly)."""
    for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"):
        yield mode, WHITE.convert("RGB").convert(mode) if mode == "HSV" else WHITE.convert(mode), True
    for kind, scale in ((np.uint8, 255), (np.uint16, 65535), (np.int32, 65535), (np.float32, 1)):
        yield f"{kind.__name__} up to {scale}", Image.fromarray((SHAPE * scale).astype(kind)), True
    for kind, scale in ((np.uint8, 1), (np.uint16, 255), (np.int32, 255), (np.int32, 1), (np.float32, 255)):
        yield f"{kind.__name__} up to {scale}", Image.fromarray((SHAPE * scale).astype(kind)), False
    for color, hidden in itertools.product(
        ((255,) * 3, (0,) * 3, (255, 0, 0), (120,) * 3), ((0,) * 3, (255,) * 3)
    ):
        pixels = np.zeros((*SHAPE.shape, 4), np.uint8)
        pixels[..., :3] = np.where(SHAPE[..., None], color, hidden)
        pixels[..., 3] = SHAPE * 255
        yield f"{color} on transparent {hidden}", Image.fromarray(pixels), color == (255,) * 3
    for colors, clear in (
        ((0, 0, 0, 255, 255, 255), True),
        ((0, 0, 0, 128, 0, 0), False),
        ((0, 0, 0, 1, 1, 1), False),
    ):
        image = Image.new("P", WHITE.size)
        image.putdata(SHAPE.astype(np.uint8).flatten().tolist())
        image.putpalette([*colors, *[0] * (768 - len(colors))])
        yield f"palette {colors}", image, clear


def photos() -> Iterator[tuple[str, Image.Image]]:
    """A gradient in every mode that holds colours or greys."""
    rows, columns = np.mgrid[0:16, 0:24]
    color = np.stack([rows * 15, columns * 10, (rows + columns) * 6], axis=-1).astype(np.uint8)
    whole = Image.fromarray(color)
    for mode in ("RGB", "RGBA", "L", "LA", "CMYK", "YCbCr", "P"):
        yield mode, whole.convert(mode)
    yield "I;16", Image.fromarray(np.asarray(whole.convert("L"), np.uint16) * 257)
    yield "I", Image.fromarray(np.asarray(whole.convert("L"), np.int32) * 257)


def ways(
    image: Image.Image, folder: Path, orientation: int = 1
) -> Iterator[tuple[str, Callable[[], Any], bool]]:
    """Every way to hand an image in: (what, gives a path or an open image, whether it loses a little)."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turned = image.copy()
    if orientation == 1:
        yield "open", lambda: turned, False
        yield "open and kept", lambda: portable_image(turned), False
        yield "open and sent", lambda: decoded_image(turned, "image"), False
    for kind in readable():
        buffer = io.BytesIO()
        options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
        if kind not in ("BMP", "GIF"):
            options["exif"] = exif
        elif orientation != 1:
            continue
        try:
            image.save(buffer, format=kind, **options)
            with Image.open(io.BytesIO(buffer.getvalue())) as again:
                if again.getexif().get(ORIENTATION, 1) != orientation:
                    continue  # the format, or Pillow, does not keep it
                numbers = image.mode[0] in "IF" and again.mode[0] != image.mode[0]
                if numbers or (has_alpha(image) and not has_alpha(again)):
                    continue  # Pillow has made other numbers of them, or the format has no transparency
        except (OSError, ValueError, KeyError):
            continue  # the format has no such mode
        path = folder / f"image.{kind.lower()}"
        path.write_bytes(buffer.getvalue())
        yield f"{kind} by path", lambda path=path: path, kind in LOSSY
        yield f"{kind} open", lambda path=path: Image.open(path), kind in LOSSY


def run() -> dict[str, Any]:
    """Try everything."""
    counts = {"attempts": 0, "read": 0, "refused": 0}
    different: list[str] = []
    unhandled: list[dict[str, str]] = []

    def attempt(label: str, read: Callable[[], Image.Image], wanted: Image.Image | None, lossy: bool) -> None:
        counts["attempts"] += 1
        try:
            got = read()
        except UserError:
            counts["refused"] += 1
            if wanted is not None and not lossy:
                different.append(f"{label}: refused")
            return
        except Exception:
            unhandled.append({"image": label, "error": traceback.format_exc()[-400:]})
            return
        counts["read"] += 1
        if wanted is None or got.size != wanted.size:
            different.append(f"{label}: read, {got.size}")
            return
        apart = np.abs(np.asarray(got, int) - np.asarray(wanted, int))
        if apart.mean() > NEAR if lossy else apart.max() > 0:
            different.append(f"{label}: {apart.max()} apart")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, image, clear in masks():
            for way, source, lossy in ways(image, folder):
                wanted = WHITE if clear else None
                attempt(f"mask {what}, {way}", lambda s=source: mask_image(s(), "mask"), wanted, lossy)
        for what, image in photos():
            upright = open_image(image, "photo")
            for orientation in TURNS:
                for way, source, lossy in ways(image, folder, orientation):
                    exif = Image.Exif()
                    exif[ORIENTATION] = orientation
                    turned = upright.copy()
                    turned.info["exif"] = exif.tobytes()
                    wanted = open_image(turned, "photo")
                    label = f"photo {what}, {way}, orientation {orientation}"
                    attempt(label, lambda s=source: open_image(s(), "photo"), wanted, lossy)
    return {**counts, "silently_different": len(different), "unhandled": len(unhandled),
            "first": [*different[:5], *unhandled[:5]]}  # fmt: skip


def main() -> None:
    found = run()
    holds = not found["silently_different"] and not found["unhandled"]
    keep("odd_images", "0 unhandled, 0 silently different", holds, found)


if __name__ == "__main__":
    main()
