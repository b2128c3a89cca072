"""`weft generate`: every variant of a run file, each picture written as soon as its batch is finished."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..core.errors import WeftError
from ..core.files import make_folder, write_image
from ..core.runfile import Run, read_run_file
from .app import Exit
from .pictures import Row, sheet
from .show import bar, out, print_error

if TYPE_CHECKING:
    from ..core.pipeline import Pipeline
    from ..core.result import Result

MANIFEST = "pictures.jsonl"
SHEET = "sheet.png"
SHEET_PICTURES = 100


@dataclass
class Written:
    """What has been written so far."""

    folder: Path
    count: int = 0
    rows: list[Row] = field(default_factory=list)

    def add(self, image: Image.Image, seed: int, sweep: Mapping[str, Any]) -> None:
        """Write one picture and its line of the manifest."""
        path = write_image(image, self.folder / f"{self.count:04d}-seed{seed}.png")
        with open(self.folder / MANIFEST, "a" if self.count else "w", encoding="utf-8") as manifest:
            manifest.write(json.dumps({"file": path.name, "seed": seed, "sweep": sweep}) + "\n")
        self.count += 1


def generate_run(path: Path, folder: Path) -> Exit:
    """Draw every variant. A variant that fails is reported and the next one is drawn."""
    runs = read_run_file(path)
    make_folder(folder, "--output")
    total = sum(len(run.seeds) for run in runs)
    written = Written(folder)
    told: set[str] = set()
    try:
        with bar(total) as (progress, task):
            pipes: dict[str, Pipeline] = {}
            for run in runs:
                try:
                    _draw(
                        run,
                        pipes,
                        written,
                        lambda done, text: progress.update(task, completed=done, description=text),
                    )
                except WeftError as error:
                    if str(error) not in told:
                        print_error(error)
                    told.add(str(error))
    except KeyboardInterrupt:
        print(f"interrupted: {written.count} of {total} pictures are in {folder}", file=sys.stderr)
        return Exit.INTERRUPTED
    if 1 < written.count <= SHEET_PICTURES:
        write_image(sheet(written.rows), folder / SHEET)
    if written.count:
        out.print(f"{written.count} of {total} pictures are in {folder}")
    if not told:
        return Exit.OK
    return Exit.PARTIAL if written.count else Exit.USER_ERROR


def _draw(run: Run, pipes: dict[str, Pipeline], written: Written, report: Any) -> None:
    from .. import load

    if run.model not in pipes:
        report(written.count, "loading")
        pipes[run.model] = load(run.model)
    images: list[Image.Image] = []
    before = written.count

    def keep(batch: Result) -> None:
        for image, sample in zip(batch.images, batch.samples, strict=True):
            written.add(image, sample.seed, run.sweep)
            images.append(image)

    try:
        pipes[run.model].generate(
            run.scene,
            run.conditioners,
            run.guidance,
            **run.sampler.options(),
            seeds=run.seeds,
            attention=False,
            progress=lambda now: report(
                before + now.fraction * now.images, f"step {now.step} of {now.steps}"
            ),
            on_batch=keep,
        )
    finally:
        if images:
            label = ", ".join(f"{name}: {value}" for name, value in run.sweep.items()) or run.scene.prompt
            written.rows.append(Row(label, images))
