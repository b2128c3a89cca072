"""Do mutated and crafted pictures ever end in anything but a picture or our own error?

python benchmarks/robustness/mutated_images.py --count 5000     # a minute, no torch
"""

from __future__ import annotations

import argparse
import io
import os
import random
import struct
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from robustness_helpers.figures import keep
from robustness_helpers.mutation import mutate

from weft import UserError
from weft.core.provenance.write import read_provenance
from weft.core.scene.image_formats import readable
from weft.core.scene.image_io import open_image

PIECES = (b"IHDR", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf", b"\xff\xd8", b"\xff\xda", b"\xff\xe1", b"RIFF", b"VP8L",
          b"\x00" * 40, b"\xff" * 40, b"BM", b"Exif\x00\x00MM", b"acTL", b"fcTL", b"zTXt", b"iTXt",
          b"GIF89a", b"II*\x00", b"MM\x00*", b"ftypavif", b"meta", b"\x2c\x00\x00\x00\x00")  # fmt: skip


def valid_files() -> list[bytes]:
    """Pictures of every mode and format that is read."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 4), dtype=np.uint8)
    color = Image.fromarray(pixels)
    made = []
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK", "YCbCr"):
        image = (
            Image.fromarray(np.arange(480, dtype=np.uint16).reshape(24, 20))
            if mode == "I;16"
            else color.convert(mode)
        )
        for kind in readable():
            buffer = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            try:
                image.save(buffer, format=kind, **({"exif": exif} if kind not in ("BMP", "GIF") else {}))
            except (OSError, KeyError, ValueError):
                continue  # the format has no such mode
            made.append(buffer.getvalue())
    return made


def crafted() -> Iterator[tuple[str, bytes]]:
    """Files that decoders have stumbled over, all to be refused."""
    png = b"\x89PNG\r\n\x1a\n"

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def head(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
        return png + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))

    end = chunk(b"IEND", b"")
    yield "a bomb of 900 megapixels", head(30_000, 30_000) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + end
    yield "sides of 2^31", head(2**31 - 1, 2**31 - 1) + end
    yield "33 megapixels", head(6000, 5500) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + end
    yield "no side", head(0, 0) + end
    yield "no pixels", head(8, 8) + end
    pixels = zlib.compress(random.Random(0).randbytes(8 * 25), 0)
    yield "half a chunk of pixels", head(8, 8) + chunk(b"IDAT", pixels)[:100]
    yield "half the chunks of pixels", head(8, 8) + chunk(b"IDAT", pixels[:100])
    yield "half the pixels and an end", head(8, 8) + chunk(b"IDAT", pixels[:100]) + end
    yield "an unknown depth", head(8, 8, 7) + end
    yield "a text of 100 MB", head(8, 8) + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 100_000_000)) + end
    yield (
        "a profile of 100 MB",
        head(8, 8) + chunk(b"iCCP", b"a\0\0" + zlib.compress(b"a" * 100_000_000)) + end,
    )
    yield (
        "a GIF of 4 gigapixels",
        b"GIF89a\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00;",
    )
    yield "a TIFF", b"II*\x00\x08\x00\x00\x00" + b"\x00" * 30
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n"
    yield "an SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield (
        "a BMP of 2^31 rows",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield "nothing", b""
    yield "text", b"hello"


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Open ``count`` mutated files and the crafted ones."""
    rng = random.Random(seed)
    files = valid_files()
    opened, refused, unhandled, accepted = 0, 0, [], []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(name) / "picture.png"

        def read(label: str, data: bytes) -> bool:
            nonlocal opened, refused
            path.write_bytes(data)
            try:
                read_provenance(path)
            except UserError:
                pass
            except Exception:
                unhandled.append({"file": label, "error": traceback.format_exc()[-600:]})
            try:
                image = open_image(path, "picture")
                assert image.mode == "RGB"
                opened += 1
            except UserError:
                refused += 1
                return False
            except Exception:
                unhandled.append({"file": label, "error": traceback.format_exc()[-600:]})
            return True

        for label, data in crafted():
            if read(label, data):
                accepted.append(label)
        os.remove(path)
        os.mkfifo(path)  # would be waited for
        for opener in (lambda: open_image(path, "picture"), lambda: read_provenance(path)):
            try:
                opener()
                accepted.append("a pipe")
            except UserError:
                refused += 1
        os.remove(path)
        for number in range(count):
            read(f"{number}", mutate(rng.choice(files), files, PIECES, rng))
    return {
        "valid_files": len(files),
        "mutated": count,
        "crafted": sum(1 for _ in crafted()) + 1,
        "crafted_and_accepted": accepted,
        "opened": opened,
        "refused": refused,
        "unhandled": len(unhandled),
        "seed": seed,
        "first": unhandled[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = run(given.count, given.seed)
    holds = not found["unhandled"] and not found["crafted_and_accepted"]
    keep("mutated_images", "5k files, only our error", holds, found)


if __name__ == "__main__":
    main()
