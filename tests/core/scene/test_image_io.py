"""Opening images: formats, orientation, sizes, and what is kept of open ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import weft
from weft.core.scene import image_io
from weft.core.scene.image_formats import readable
from weft.core.scene.image_io import open_image, pixel_digest
from weft.core.scene.masks import mask_image
from weft.core.scene.portable import portable_image

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


def turned(path: Path, orientation: int, **options) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_open_image_is_as_upright_as_its_file(orientation: int, kind: str, tmp_path: Path) -> None:
    path = turned(tmp_path / f"photo.{kind}", orientation)
    by_path = open_image(path, "photo")
    as_png = turned(tmp_path / "same.png", orientation)
    assert by_path.tobytes() == open_image(as_png, "photo").tobytes()
    assert by_path.size == ((9, 6) if orientation < 5 else (6, 9))
    with Image.open(path) as image:
        assert open_image(image, "photo").tobytes() == by_path.tobytes()
        assert open_image(image.copy(), "photo").tobytes() == by_path.tobytes()
        assert open_image(image, "photo").tobytes() == by_path.tobytes()
        assert mask_image(image.convert("L"), "mask").size == by_path.size
        assert portable_image(image).tobytes() == by_path.tobytes()
        if kind == "png":
            assert image.size == (9, 6)  # the user's own is left as it was


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_tiff_in_modes_that_are_mapped_into_memory(mode: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "photo.tiff", exif=exif)
    wanted = open_image(image, "photo").copy()
    wanted.info["exif"] = exif.tobytes()
    wanted = open_image(wanted, "photo")
    assert open_image(tmp_path / "photo.tiff", "photo").tobytes() == wanted.tobytes()
    with Image.open(tmp_path / "photo.tiff") as opened:
        assert open_image(opened, "photo").tobytes() == wanted.tobytes()


def test_the_first_frame_of_a_gif_and_other_formats(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "a.gif", "photo").getpixel((1, 1)) == (255, 0, 0)
    for kind in {"TIFF", "AVIF"} & set(readable()):
        frames[1].save(tmp_path / "b", format=kind)
        red, _, blue = open_image(tmp_path / "b", "photo").getpixel((1, 1))
        assert red < 5
        assert blue > 250
    assert "HEIF" not in readable()
    (tmp_path / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 50)
    with pytest.raises(weft.UserError, match=r"expected an image \(PNG, .*pillow-heif"):
        open_image(tmp_path / "c.heic", "photo")


@pytest.mark.parametrize("size", [(900, 600), (901, 601), (450, 300), (1800, 1200)])
def test_a_large_jpeg_is_reduced_while_decoding(size, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(image_io, "MAX_PIXELS", 140_000)
    Image.linear_gradient("L").resize(size).convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    small = open_image(tmp_path / "photo.jpg", "photo")
    assert 30_000 < small.width * small.height <= 140_000
    whole = Image.linear_gradient("L").resize(small.size)
    assert np.abs(np.asarray(small.convert("L"), int) - np.asarray(whole, int)).max() < 8


def test_what_cannot_be_reduced_says_how_large_it_may_be(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(image_io, "MAX_PIXELS", 100)
    Image.new("RGB", (40, 10)).save(tmp_path / "photo.png")
    for source in (tmp_path / "photo.png", Image.new("RGB", (40, 10))):
        with pytest.raises(weft.UserError, match=r"found 40 x 10 in .* Make it 20 x 5 or smaller"):
            open_image(source, "photo")
    Image.new("RGB", (400, 100)).save(tmp_path / "photo.jpg")  # an eighth is too large as well
    with pytest.raises(weft.UserError, match="megapixels"):
        open_image(tmp_path / "photo.jpg", "photo")


@pytest.mark.parametrize("numbers", [(0, 255), (-5, 100), (0, 70_000)])
def test_numbers_of_an_unknown_range_are_refused(numbers) -> None:
    image = Image.fromarray(np.array([numbers], np.int32))
    with pytest.raises(weft.UserError, match=f"32-bit numbers from {numbers[0]} to {numbers[1]}"):
        open_image(image, "photo")


def palette(color: int, transparency: int | None = None) -> Image.Image:
    image = Image.new("P", (4, 4))
    image.putpalette([color] * 3)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257),
        Image.fromarray(PIXELS[..., 0].astype(np.int32) * 257),
        palette(200),
        palette(255, transparency=0),
        Image.fromarray(PIXELS).convert("CMYK"),
        Image.fromarray(PIXELS).convert("1"),
    ],
    ids=lambda image: image.mode,
)
def test_a_kept_open_image_is_read_as_the_open_one(image: Image.Image, tmp_path: Path) -> None:
    portable_image(image).save(tmp_path / "kept.png")
    assert open_image(tmp_path / "kept.png", "photo").tobytes() == open_image(image, "photo").tobytes()


def test_a_float_mask_is_kept(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS[..., 0].astype(np.float32) / 255)
    portable_image(image).save(tmp_path / "kept.png")
    assert mask_image(tmp_path / "kept.png", "mask").tobytes() == mask_image(image, "mask").tobytes()


def test_images_that_look_different_have_different_digests() -> None:
    images = [palette(0), palette(200), palette(0, 0), Image.new("RGB", (4, 4)), Image.new("I", (4, 4), 9000)]
    assert len({pixel_digest(portable_image(image)) for image in images}) == len(images)
