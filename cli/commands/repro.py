"""Draw an image again from what it carries, after its digests are checked, and compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ...core.provenance.write import read_provenance
from ...core.scene.image_formats import encode_image
from ...core.storage.atomic import write_file
from ..exit_code import Exit
from ..options import OutputFile, PluginFiles
from ..printing import out
from ..run_files import run_plugin_files

CLOSE = 40.0
"""Decibels above which two images count as one when bits were not promised; the eye sees nothing there."""


def run(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image that weft drew.")],
    output: OutputFile = None,
    plugin_files: PluginFiles = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Fetch the model that the image names, if it is one of the hub."),
    ] = False,
) -> Exit:
    """Draw an image again and say whether it is the same; exit code 3 when it is not."""
    kept = read_provenance(image)
    run_plugin_files(plugin_files or ())
    from ...core.jobs.reproduce import checked_run, draw_again

    checked = checked_run(kept, image.parent, download)
    out.print(f"The digests of the model and of {len(kept.provenance.references)} other files match.")
    if kept.source != image:
        out.print(f"{image.name} has lost its texts; {kept.source.name} was read instead.")
    redrawn = draw_again(kept, image, download)
    if output is not None:
        write_file(encode_image(redrawn.image), output)
    if not redrawn.untouched:
        out.print(f"{image.name} was changed after it was drawn: its pixels are not those recorded.")
    for difference in redrawn.differences:
        out.print(f"Not as it was: {difference}.")
    if redrawn.equal:
        out.print("Drawn again: equal, every pixel as recorded.")
        return Exit.OK
    if redrawn.psnr is None:
        out.print(f"Drawn again: another image, {redrawn.image.width} x {redrawn.image.height} pixels.")
        return Exit.PARTIAL
    near = (
        "no pixel differs from the file"
        if math.isinf(redrawn.psnr)
        else f"PSNR {redrawn.psnr:.1f} dB to the file"
    )
    out.print(f"Drawn again: not equal to what was recorded; {near}.")
    if checked.reproducibility != "exact":
        out.print("Bits are promised with 'reproducibility: exact' only: the images beside it are not here.")
    return Exit.OK if checked.reproducibility != "exact" and redrawn.psnr >= CLOSE else Exit.PARTIAL
