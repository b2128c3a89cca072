"""Draws the example run files as they are, by the model that they name, and writes docs/examples.md.

    python docs/draw_examples.py                   # all of them, minutes on one core
    python docs/draw_examples.py 03-boxes          # some of them
    python docs/draw_examples.py --work FOLDER     # go on where a run before was interrupted
    python docs/draw_examples.py --page            # the page alone, with the images that are there

What is kept is the contact sheet, or the only image, that `weft generate` makes. An example whose conditioners have
no weights in the model's folder is left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from weft.cli.commands.generate import run as generate
from weft.core.api.registry import registry
from weft.core.jobs.report import SHEET
from weft.core.runfile.read import read_run_file

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLES: Final = ROOT / "examples"
PAGE: Final = ROOT / "docs" / "examples.md"
IMAGES: Final = ROOT / "docs" / "images" / "examples"
HEAD: Final = """\
# Ten run files

Each of these is a file in [examples](../examples), and is drawn by the model that comes with Weft:

```bash
weft generate examples/01-one-subject.yaml -o out/
```

The model is small and knows a world of a few shapes, so that one core draws all ten in minutes.
A run file for Stable Diffusion differs in its `model` and in its words.
The images are the contact sheets that `weft generate` writes, of the files as they are: the first seeds, none chosen.
`python docs/draw_examples.py` draws them again, and writes this page.
"""
COLORS: Final = 256
"""Of the palette that the sheets are stored with; the shapes of the tiny world need no more."""


def lacking(path: Path) -> list[str]:
    """Conditioners of a run file whose weights its model does not ship."""
    missing = set()
    for run in read_run_file(path):
        card = registry().model(run.model)
        folder = Path(run.model) if card is None else card.folder
        names = {one.name for one in run.conditioners}
        missing |= {name for name in names if not (folder / "weft" / f"{name}.safetensors").is_file()}
    return sorted(missing)


def draw(path: Path, work: Path, overrides: Sequence[str] = ()) -> Image.Image:
    """The sheet of an example, drawn in ``work``; the image itself when there is only one."""
    code = generate(path, work, list(overrides))
    if code:
        raise SystemExit(f"{path.name} ended with {int(code)}")
    sheet = work / f"{SHEET}.png"
    found = sheet if sheet.is_file() else next(work.glob("*-seed*.png"))
    with Image.open(found) as image:
        return image.convert("RGB")


def page() -> str:
    """The page: every example with what it says of itself, its text, and its image where that is drawn."""
    return HEAD + "".join(f"\n{section(path)}" for path in sorted(EXAMPLES.glob("*.yaml")))


def section(path: Path) -> str:
    """One example's part of the page."""
    schema, *lines = path.read_text().splitlines()
    assert schema.startswith("# yaml-language-server"), path.name
    count = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    about, text = " ".join(line.removeprefix("# ") for line in lines[:count]), "\n".join(lines[count:])
    number, _, words = path.stem.partition("-")
    title = f"## {int(number)}. {words.replace('-', ' ').capitalize()}"
    image = IMAGES / f"{path.stem}.png"
    shown = f"\n![{about}]({image.relative_to(PAGE.parent).as_posix()})\n" if image.is_file() else ""
    return f"{title}\n\n{about}\n\n[{path.name}](../examples/{path.name})\n\n```yaml\n{text}\n```\n{shown}"


def main() -> None:
    names = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
    parser = argparse.ArgumentParser(description="draw the images of docs/examples.md")
    parser.add_argument("names", nargs="*", choices=[[], *names], help="all of them by default")
    parser.add_argument("--work", type=Path, help="where to draw; a temporary folder by default")
    parser.add_argument("--page", action="store_true", help="draw nothing")
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name in [] if options.page else options.names or names:
            path = EXAMPLES / f"{name}.yaml"
            if missing := lacking(path):
                print(f"{name}: left out, its model has no weights of {', '.join(missing)}")
                continue
            drawn = draw(path, (options.work or Path(temporary)) / name)
            drawn.quantize(COLORS, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)
            print(f"{name}: {drawn.width} x {drawn.height}")
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
