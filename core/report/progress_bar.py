"""The bar that shows how much of a generation is done. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(images: int, console: Console | None = None) -> Iterator[Callable[[float, str], None]]:
    """A function that takes how many images are done, parts of them too, and what is going on, if that is new."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} images"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("loading", total=images)
        yield lambda done, text: progress.update(task, completed=done, description=text or None)
