"""`python -m weft.zoo.world sheet OUT.png` draws the sheet of the world."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from .sheet import world_sheet


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m weft.zoo.world", description="Draw the procedural world."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet", help="write it")
    sheet.add_argument("path", type=Path, help="the PNG file to write")
    path: Path = parser.parse_args().path
    palette = world_sheet().quantize(256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)


if __name__ == "__main__":
    main()
