"""The images of a run or of a sweep with what was measured of them: their sheets and their means. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from PIL import Image

from .interval import UNBOUNDED, Interval
from .sheet import Row, sheet

IMAGES_A_SHEET = 100
SHEETS = 10
IMAGES_A_ROW = 10
LABEL = 40
"""Characters of a swept value in a label."""


@dataclass(frozen=True)
class Entry:
    """One image.

    Args:
        scene: its number, from 0.
        swept: the values of the swept settings, by path.
        measured: by metric; None where the scene does not ask for what is measured.
        open: gives the image when it is needed: a sheet holds hundreds.
    """

    scene: int
    prompt: str
    seed: int
    swept: Mapping[str, Any]
    open: Callable[[], Image.Image]
    measured: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """Entries side by side, what they have in common, and what each differs by."""

    label: str
    entries: Sequence[Entry]
    captions: Sequence[str]


def sheets(entries: Sequence[Entry]) -> Iterator[Image.Image]:
    """Labelled sheets of at most `IMAGES_A_SHEET` images, at most `SHEETS` of them."""
    for part in _parts(lines(entries)):
        yield sheet([Row(one.label, [entry.open() for entry in one.entries], one.captions) for one in part])


def lines(entries: Sequence[Entry]) -> list[Line]:
    """A line for each scene and variant, its seeds along it; with one seed, the values of the last swept setting."""
    scenes = len({entry.scene for entry in entries}) > 1
    seeds = len({entry.seed for entry in entries}) > 1
    rows: dict[str, list[tuple[Entry, str]]] = {}
    for entry in entries:
        swept = [f"{name}: {shortened(value)}" for name, value in entry.swept.items()]
        head, along = (swept, [f"seed {entry.seed}"]) if seeds else (swept[:-1], swept[-1:])
        prompt = [entry.prompt] if scenes or not swept else []
        rows.setdefault(", ".join([*prompt, *head]), []).append((entry, ", ".join(along)))
    return [
        Line("" if start else label, *zip(*members[start : start + IMAGES_A_ROW], strict=True))
        for label, members in rows.items()
        for start in range(0, len(members), IMAGES_A_ROW)
    ]


def means(entries: Sequence[Entry], names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """For every point of a sweep, by its label, the values of every metric; one point "mean" without a sweep."""
    values: dict[str, dict[str, list[float]]] = {}
    for entry in entries:
        label = ", ".join(f"{name}: {shortened(value)}" for name, value in entry.swept.items()) or "mean"
        point = values.setdefault(label, {name: [] for name in names})
        for name in names:
            value = entry.measured.get(name)
            if value is not None:
                point[name].append(value)
    return values


def spread(values: Sequence[float], bounds: Interval = UNBOUNDED) -> tuple[float, float, float]:
    """(low, mean, high) of the mean's 95 % interval; all the same for one value, which shows no spread."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    from .statistics import mean_interval

    low, high = mean_interval(values, bounds)
    # a value beyond its metric's bounds may leave the mean outside
    return min(low, mean), mean, max(high, mean)


def interval_text(values: Sequence[float], bounds: Interval = UNBOUNDED) -> str:
    """ "0.870 (0.820 to 0.920)": the mean and its 95 % interval; the value itself where there is one, else a dash."""
    if not values:
        return "-"
    low, mean, high = spread(values, bounds)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})" if len(values) > 1 else f"{mean:.3f}"


def shortened(value: Any, length: int = LABEL) -> str:
    """A swept value as a label shows it."""
    text = str(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _parts(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines of at most `IMAGES_A_SHEET` images, for at most `SHEETS` sheets."""
    part: list[Line] = []
    count = 0
    for line in lines:
        if part and sum(len(one.entries) for one in part) + len(line.entries) > IMAGES_A_SHEET:
            yield part
            part, count = [], count + 1
            if count == SHEETS:
                return
        part.append(line)
    yield part
