"""The image formats that are read, and those that images are written in: one table. Free of torch."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from PIL import Image
from PIL.PngImagePlugin import PngInfo

READ = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
"""Pillow's names of what users may hand in; the first frame of what moves. It reads AVIF since 11.3, and HEIF (HEIC)
where the package pillow-heif has registered itself."""


def readable() -> tuple[str, ...]:
    """Those of `READ` that the installed Pillow reads."""
    if any(name not in Image.OPEN for name in READ):
        Image.init()
    return tuple(name for name in READ if name in Image.OPEN)


class ImageFormat(ABC):
    """A format that keeps every pixel, and texts beside them."""

    name: ClassVar[str]
    """Pillow's."""
    suffix: ClassVar[str]
    media_type: ClassVar[str]

    @abstractmethod
    def encode(self, image: Image.Image, texts: Mapping[str, str]) -> bytes:
        """An image as the bytes of a file, with the texts that it carries."""

    @abstractmethod
    def texts(self, image: Image.Image) -> dict[str, str]:
        """The texts of an image that was opened from a file of this format, read before its pixels."""


class Png(ImageFormat):
    """Texts are international text chunks (PNG specification, 11.3.4.5)."""

    name = "PNG"
    suffix = ".png"
    media_type = "image/png"

    def encode(self, image: Image.Image, texts: Mapping[str, str]) -> bytes:
        chunks = PngInfo()
        for name, text in texts.items():
            chunks.add_itxt(name, text)
        buffer = io.BytesIO()
        image.save(buffer, format=self.name, pnginfo=chunks)
        return buffer.getvalue()

    def texts(self, image: Image.Image) -> dict[str, str]:
        return {str(name): text for name, text in image.info.items() if isinstance(text, str)}


WRITTEN: tuple[ImageFormat, ...] = (Png(),)
"""The formats of images that Weft has written; the first is that of new ones."""


def encode_image(image: Image.Image, texts: Mapping[str, str] | None = None) -> bytes:
    """An image as the bytes of a file in the format of new ones."""
    return WRITTEN[0].encode(image, texts or {})


def image_suffix() -> str:
    """Of new files."""
    return WRITTEN[0].suffix


def open_written(path: Path) -> Image.Image:
    """Open an image that Weft has written; its pixels are read when they are needed.

    Raises:
        PIL.UnidentifiedImageError: it is of none of the formats.
        OSError: it cannot be read.
    """
    return Image.open(path, formats=[one.name for one in WRITTEN])


def image_texts(path: Path) -> dict[str, str]:
    """The texts that an image carries. Raises what `open_written` does, and what decoders raise on broken files."""
    with open_written(path) as image:
        return next(one for one in WRITTEN if one.name == image.format).texts(image)


def written_images(folder: Path) -> list[Path]:
    """The files of a folder that may be images which Weft has written, by their names."""
    suffixes = {one.suffix for one in WRITTEN}
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes)
