"""Draw what a run file describes and is not there yet. Finished images stay when Ctrl-C is pressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from ...core.api.generation_settings import GenerationSettings
from ...core.errors import UserError, WeftError
from ...core.jobs.engines import Engine, EngineSettings, engine_names, make_engine
from ...core.jobs.events import Listener
from ...core.jobs.job import Item, plan
from ...core.jobs.output_folder import Store
from ...core.jobs.report import (
    entries_of,
    metric_bounds,
    metric_names,
    write_plot,
    write_sheets,
    write_table,
)
from ...core.report.entries import interval_text, means
from ...core.report.progress_bar import progress_bar
from ..exit_code import Exit
from ..options import Device, Dtype, Output, Overrides, PluginFiles, RunFile, Vae, Variant, loading
from ..printing import errors, out, print_error, print_table, table
from ..run_files import read_runs

MOST_POINTS = 50
"""Points of a sweep whose means are printed."""


class _Keeper(Listener):
    """Keeps what is drawn, counts it, and reports each error once."""

    def __init__(self, store: Store, done: int, show: Callable[[float, str], None]) -> None:
        self.store, self.done, self.show = store, done, show
        self.reported: set[str] = set()

    def drawn(self, item: Item, image: Image.Image, settings: GenerationSettings) -> None:
        wrong = self.store.keep(item, image, settings)
        self.done += 1
        self.show(self.done, "")
        if wrong is not None:
            self.report(wrong)

    def failed(self, items: Sequence[Item], error: WeftError) -> None:
        self.report(error)

    def working(self, done: float, text: str) -> None:
        self.show(self.done + done, text)

    def report(self, error: WeftError) -> None:
        if str(error) not in self.reported:
            print_error(error)
        self.reported.add(str(error))


def run(
    run_file: RunFile,
    output: Output = Path("outputs"),
    overrides: Overrides = None,
    plugin_files: PluginFiles = None,
    device: Device = None,
    dtype: Dtype = None,
    variant: Variant = None,
    vae: Vae = None,
    engine: Annotated[
        str, typer.Option(metavar=f"[{'|'.join(engine_names())}]", help="Where images are drawn.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of Ray; one a GPU, or one a node without GPUs, by default.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; RAY_ADDRESS, or this machine, by default.")
    ] = None,
) -> Exit:
    """Draw what is missing, each image written as soon as its batch is finished; a run that fails is reported."""
    chosen = [*(overrides or ()), *loading(device, dtype, variant, vae)]
    items = plan(read_runs(run_file, chosen, plugin_files or ()))
    with Store.alone(output) as store:
        return _draw(store, items, lambda: make_engine(engine, EngineSettings(workers, ray_address)))


def _draw(store: Store, items: Sequence[Item], engine: Callable[[], Engine]) -> Exit:
    output = store.folder
    missing = store.missing(items)
    there = len(items) - len(missing)
    if there:
        out.print(f"{there} of {len(items)} images are in {output} already")
    keeper = None
    try:
        with progress_bar(len(items), errors) as show:
            keeper = _Keeper(store, there, show)
            if missing:
                engine().draw(missing, keeper)
            for item in items:
                wrong = store.measure(item)
                if wrong is not None:
                    keeper.report(wrong)
    except KeyboardInterrupt:
        store.flush()
        done = keeper.done if keeper is not None else there
        errors.print(f"interrupted: {done} of {len(items)} images are in {output}")
        errors.print("The same command draws the rest.")
        return Exit.INTERRUPTED
    store.flush()
    if keeper.done:
        _report(store, [item for item in items if store.path(item) is not None])
        out.print(f"{keeper.done} of {len(items)} images are in {output}")
    if not keeper.reported:
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
        errors.print(f"no plot of the metrics: {error}")
