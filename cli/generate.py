"""`weft generate`: every picture of a run file that is not there yet, each written as soon as its batch is finished."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..core.api.generation_settings import GenerationSettings
from ..core.errors import UserError, WeftError
from ..core.jobs.events import Listener
from ..core.jobs.job import Item, plan
from ..core.jobs.output_folder import Store
from ..core.jobs.report import (
    PLOT,
    entries_of,
    metric_bounds,
    metric_names,
    write_plot,
    write_sheets,
    write_table,
)
from ..core.report.entries import interval_text, means
from ..core.runfile.read import read_run_file
from .app import Exit
from .show import bar, errors, out, print_error, print_table, table

if TYPE_CHECKING:
    from ..core.jobs.engines import Engine


MOST_POINTS = 50
"""Points of a sweep whose means are printed."""


class _Keeper(Listener):
    """Keeps what is drawn, counts it, and tells each error once."""

    def __init__(self, store: Store, done: int, show: Callable[[float, str], None]) -> None:
        self.store, self.done, self.show = store, done, show
        self.told: set[str] = set()

    def drawn(self, item: Item, image: Image.Image, settings: GenerationSettings) -> None:
        wrong = self.store.keep(item, image, settings)
        self.done += 1
        self.show(self.done, "")
        if wrong is not None:
            self.tell(wrong)

    def failed(self, items: Sequence[Item], error: WeftError) -> None:
        self.tell(error)

    def working(self, done: float, text: str) -> None:
        self.show(self.done + done, text)

    def tell(self, error: WeftError) -> None:
        if str(error) not in self.told:
            print_error(error)
        self.told.add(str(error))


def generate_run(
    path: Path,
    folder: Path,
    overrides: Sequence[str] = (),
    engine: str = "local",
    ray_address: str | None = None,
    workers: int | None = None,
) -> Exit:
    """Draw what is missing. A run that fails is reported and the next one is drawn.

    Args:
        overrides: ``path=value`` each.
        engine: ``local`` or ``ray``; the rest is for ray.
    """
    runs = read_run_file(path, overrides=overrides)
    items = plan(runs)
    store = Store(folder)
    missing = store.missing(items)
    there = len(items) - len(missing)
    if there:
        out.print(f"{there} of {len(items)} pictures are in {folder} already")
    keeper = None
    try:
        with bar(len(items)) as (progress, task):

            def show(done: float, text: str) -> None:
                progress.update(task, completed=done, description=text or None)

            keeper = _Keeper(store, there, show)
            if missing:
                _engine(engine, ray_address, workers).draw(missing, keeper)
            for item in items:
                wrong = store.measure(item)
                if wrong is not None:
                    keeper.tell(wrong)
    except KeyboardInterrupt:
        store.flush()
        done = keeper.done if keeper is not None else there
        print(f"interrupted: {done} of {len(items)} pictures are in {folder}", file=sys.stderr)
        print("The same command draws the rest.", file=sys.stderr)
        return Exit.INTERRUPTED
    store.flush()
    if keeper.done:
        _report(store, [item for item in items if store.path(item) is not None])
        out.print(f"{keeper.done} of {len(items)} pictures are in {folder}")
    if not keeper.told:
        return Exit.OK
    return Exit.PARTIAL if keeper.done else Exit.USER_ERROR


def _report(store: Store, items: Sequence[Item]) -> None:
    """Write the sheets, and the table and the plot of metrics; print the means."""
    entries = entries_of(store, items)
    write_sheets(store.folder, entries)
    names = metric_names(items)
    if not names:
        return
    path = write_table(store.folder, items, entries)
    points = means(entries, names)
    if len(points) <= MOST_POINTS:
        shown, bounds = table("", *names), metric_bounds(names)
        for label, values in points.items():
            shown.add_row(label, *(interval_text(values[name], bounds[name]) for name in names))
        print_table(shown)
    out.print(f"Every value is in {path}")
    try:
        write_plot(store.folder, items, entries)
    except UserError as error:
        errors.print(f"no {PLOT}: {error}")


def _engine(name: str, ray_address: str | None, workers: int | None) -> Engine:
    if name == "ray":
        from ..core.jobs.engines.ray import RayEngine

        return RayEngine(ray_address, workers)
    from ..core.jobs.engines.local import LocalEngine

    return LocalEngine()
