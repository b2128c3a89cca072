"""What an image means as a mask: one shape in every mode means the same, and the ambiguous is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import weft
from weft.core.scene.masks import mask_image

SHAPE = np.zeros((6, 8), bool)
SHAPE[1:4, 2:7] = True
GREY = Image.fromarray((SHAPE * 255).astype(np.uint8))


def on_transparent(color: tuple[int, int, int], hidden: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """A shape of one colour, and what editors leave in the pixels that are not seen."""
    pixels = np.zeros((*SHAPE.shape, 4), np.uint8)
    pixels[..., :3] = np.where(SHAPE[..., None], color, hidden)
    pixels[..., 3] = SHAPE * 255
    return Image.fromarray(pixels)


def palette(colors: list[int], transparency: int | None = None) -> Image.Image:
    image = Image.new("P", GREY.size)
    image.putdata(SHAPE.astype(np.uint8).flatten().tolist())
    image.putpalette(colors + [0] * (768 - len(colors)))
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


SAME = {
    "1": GREY.convert("1"),
    "L": GREY,
    "RGB": GREY.convert("RGB"),
    "CMYK": GREY.convert("RGB").convert("CMYK"),
    "YCbCr": GREY.convert("YCbCr"),
    "I;16": Image.fromarray((SHAPE * 65535).astype(np.uint16)),
    "I": Image.fromarray((SHAPE * 65535).astype(np.int32)),
    "F": Image.fromarray(SHAPE.astype(np.float32)),
    "P in greys": palette([0, 0, 0, 255, 255, 255]),
    "P with a transparent colour": palette([255, 255, 255, 255, 255, 255], transparency=0),
    "opaque RGBA": GREY.convert("RGBA"),
    "white on transparent": on_transparent((255, 255, 255)),
    "white on transparent white": on_transparent((255, 255, 255), (255, 255, 255)),
    "white on transparent colour": on_transparent((255, 255, 255), (200, 30, 90)),
    "LA": on_transparent((255, 255, 255)).convert("LA"),
}


@pytest.mark.parametrize("mode", SAME)
def test_one_shape_means_the_same_in_every_mode(mode: str) -> None:
    got = mask_image(SAME[mode], "mask")
    assert got.mode == "L"
    assert np.array_equal(np.asarray(got), np.asarray(GREY))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16", "P in greys", "white on transparent", "LA"])
def test_it_means_the_same_in_every_file(kind: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"mask.{kind.lower()}"
    try:
        SAME[mode].save(path, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    except (OSError, ValueError):
        pytest.skip("the format has no such mode")
    got = np.asarray(mask_image(path, "mask"), np.int16)
    assert np.abs(got - np.asarray(GREY)).max() <= (90 if kind == "JPEG" else 0)
    assert ((got > 127) == SHAPE).all()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(SHAPE.astype(np.uint8)), "1 of 255. Numbers such as 0 and 1 are labels"),
        (
            Image.fromarray((SHAPE * 255).astype(np.uint16)),
            "0.992 of 255. Numbers such as 0 and 1 are labels",
        ),
        (Image.fromarray(SHAPE.astype(np.uint16)), "0.00389 of 255. Numbers"),
        (Image.fromarray((SHAPE / 1000).astype(np.float32)), "0.255 of 255"),
        (Image.fromarray((SHAPE * 255).astype(np.int32)), "32-bit numbers from 0 to 255"),
        (Image.fromarray((SHAPE * -1).astype(np.int32)), "32-bit numbers from -1 to 0"),
        (Image.fromarray((SHAPE * 255).astype(np.float32)), "numbers from 0 to 255. Divide"),
        (Image.fromarray(np.where(SHAPE, np.nan, 0).astype(np.float32)), "floats lie from 0 to 1"),
        (palette([0, 0, 0, 128, 0, 0]), "colours in 31% of its pixels"),
        (palette([0, 0, 0, 1, 1, 1]), "1 of 255"),
        (on_transparent((0, 0, 0)), "a dark shape on it"),
        (on_transparent((255, 0, 0)), "colours in 31% of its pixels"),
        (on_transparent((120, 120, 120)), "a picture on it"),
        (Image.new("LAB", (8, 6)), "mode 'LAB'"),
    ],
)
def test_what_says_nothing_certain_is_refused(image: Image.Image, words: str) -> None:
    with pytest.raises(weft.UserError) as refused:
        mask_image(image, "subject 'toy', field 'mask'")
    assert str(refused.value).startswith("subject 'toy', field 'mask': expected ")
    assert words in str(refused.value)


def test_soft_masks_and_black_ones_stay() -> None:
    soft = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) * 5)
    assert np.array_equal(np.asarray(mask_image(soft, "mask")), np.asarray(soft))
    halves = Image.fromarray(np.full((6, 8), 0.5, np.float32))
    assert set(np.asarray(mask_image(halves, "mask")).flatten().tolist()) == {128}
    assert mask_image(Image.new("L", (8, 6)), "mask").getbbox() is None
    faded = on_transparent((255, 255, 255))
    faded.putalpha(faded.getchannel("A").point(lambda value: value // 2))
    assert mask_image(faded, "mask").getextrema() == (0, 127)
