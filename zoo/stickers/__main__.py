"""``python -m weft.zoo.stickers sheet OUT.png`` draws scenes; ``atlas --packages DIR`` builds the atlas of sprites."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image


def sheet(path: Path, first: int, columns: int = 8, rows: int = 6) -> None:
    """Write a sheet of the training scenes whose seeds start at ``first``."""
    from . import sample

    side = 128
    page = Image.new("RGB", (columns * side, rows * side))
    for i in range(columns * rows):
        page.paste(Image.fromarray(sample(first + i).image(side)), (i % columns * side, i // columns * side))
    page.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m weft.zoo.stickers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("sheet", help="draw scenes")
    drawn.add_argument("path", type=Path, help="the PNG file to write")
    drawn.add_argument("--first", type=int, default=0, help="seed of the first scene")
    built = commands.add_parser("atlas", help="build the atlas from npm's packages (needs the extra 'train')")
    built.add_argument("--packages", type=Path, required=True, help="folder of the unpacked packages")
    options = parser.parse_args()
    if options.command == "sheet":
        sheet(options.path, options.first)
    else:
        from .build import build

        build(options.packages, Path(__file__).parent)


if __name__ == "__main__":
    main()
