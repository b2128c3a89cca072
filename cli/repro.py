"""`weft repro`: a picture is drawn again from what it carries, and compared."""

from __future__ import annotations

import math
from pathlib import Path

from ..core.provenance.write import read_provenance
from ..core.storage.atomic import write_image
from .app import Exit
from .show import out

CLOSE = 40.0
"""Decibels above which two pictures count as one when bits were not promised; the eye sees nothing there."""


def repro(picture: Path, output: Path | None) -> Exit:
    """Draw a picture again and say whether it is the same; exit code 3 when it is not."""
    kept = read_provenance(picture)
    from ..core.jobs.reproduce import checked_run, draw_again

    run = checked_run(kept, picture.parent)
    out.print(f"The digests of the model and of {len(kept.provenance.references)} reference pictures match.")
    if kept.source != picture:
        out.print(f"{picture.name} has lost its texts; {kept.source.name} was read instead.")
    made = draw_again(kept, picture)
    if output is not None:
        write_image(made.image, output)
    if not made.untouched:
        out.print(f"{picture.name} was changed after it was drawn: its pixels are not those recorded.")
    for difference in made.differences:
        out.print(f"Not as it was: {difference}.")
    if made.equal:
        out.print("Drawn again: equal, every pixel as recorded.")
        return Exit.OK
    if made.psnr is None:
        out.print(f"Drawn again: another picture, {made.image.width} x {made.image.height} pixels.")
        return Exit.PARTIAL
    near = (
        "no pixel differs from the file" if math.isinf(made.psnr) else f"PSNR {made.psnr:.1f} dB to the file"
    )
    out.print(f"Drawn again: not equal to what was recorded; {near}.")
    if run.reproducibility != "exact":
        out.print(
            "Bits are promised with 'reproducibility: exact' only: the pictures beside it are not here."
        )
    return Exit.OK if run.reproducibility != "exact" and made.psnr >= CLOSE else Exit.PARTIAL
