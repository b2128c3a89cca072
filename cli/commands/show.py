"""Make a page of a folder's images, which opens in a browser without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...core.errors import UserError
from ...core.jobs.gallery import PAGE, page, read_cards
from ...core.storage.atomic import write_file
from ..exit_code import Exit
from ..printing import out


def run(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")]) -> Exit:
    """Write `PAGE` into a folder of images; exit code 3 when some of them cannot be read."""
    if not folder.is_dir():
        raise UserError("DIR", "a folder of images", f"'{folder}'")
    cards, wrong = read_cards(folder)
    if not cards:
        raise UserError(f"folder '{folder}'", "images that weft has drawn", "none")
    path = write_file(page(folder.resolve().name, cards, wrong).encode(), folder / PAGE)
    out.print(f"{path} shows {len(cards)} images; open it in a browser.")
    for message in wrong[:10]:
        out.print(f"left out: {message}")
    if len(wrong) > 10:
        out.print(f"... and {len(wrong) - 10} more, on the page")
    return Exit.PARTIAL if wrong else Exit.OK
