"""A page of a folder's images that opens from the disk, without a server and without scripts. Free of torch."""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..provenance.write import OVERLAY, Provenance, read_item, read_provenance
from ..report.entries import shortened
from ..report.html import render
from ..report.palette import color_of
from ..runfile.strict_yaml import parse_yaml
from ..scene.image_formats import written_images
from .manifest import Manifest

PAGE = "index.html"
POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
SMALL = 160
"""Pixels up to which an image is enlarged without smoothing."""


@dataclass(frozen=True)
class Box:
    """A subject's box, in percent of the image, as CSS writes numbers."""

    phrase: str
    color: str
    left: str
    top: str
    width: str
    height: str


@dataclass(frozen=True)
class Card:
    """What is shown of an image.

    Args:
        settings: of its run file, unchecked.
        item: swept settings, metrics and more, unchecked.
        overlays: (phrase, file) of its attention overlays.
    """

    path: Path
    run_file: str
    settings: Mapping[str, Any]
    provenance: Provenance
    item: Mapping[str, Any]
    overlays: Sequence[tuple[str, Path]] = field(default=())

    @property
    def prompt(self) -> str:
        return str(self.settings.get("prompt", ""))

    @property
    def width(self) -> int | None:
        """In pixels, where the run file says it."""
        return self._side("width")

    @property
    def height(self) -> int | None:
        """As `width`."""
        return self._side("height")

    @functools.cached_property
    def boxes(self) -> list[Box]:
        """Of its subjects."""
        return list(_boxes(self.settings.get("subjects")))

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured, by name."""
        values = _mapping(self.item.get("metrics"))
        return {str(name): float(value) for name, value in values.items() if _is_finite(value)}

    @property
    def chips(self) -> dict[str, object]:
        """What the image differs by from those beside it, and what was measured of it."""
        metrics = {name: f"{value:.3g}" for name, value in self.metrics.items()}
        return {"seed": self.provenance.seed, **_mapping(self.item.get("sweep")), **metrics}

    @property
    def origin(self) -> str:
        """What it was drawn with and on, a line each."""
        known = self.provenance
        machine = f"{known.device} ({known.hardware}), {known.dtype}, {known.threads} threads"
        versions = ", ".join(f"{name} {number}" for name, number in known.libraries.items())
        plugins = [f"{name}: {source}" for name, source in known.plugins.items()]
        digests = [*known.model.items(), *known.references.items()]
        return "\n".join(
            [machine, versions, *plugins, *(f"{digest[:16]} {name}" for name, digest in digests), ""]
        )

    def _side(self, name: str) -> int | None:
        side = _mapping(self.settings.get("sampler")).get(name)
        return side if isinstance(side, int) and 0 < side <= 65536 else None


@dataclass(frozen=True)
class Mean:
    """A metric over images: its mean, its lowest and its highest value."""

    metric: str
    mean: float
    low: float
    high: float
    images: int


def read_cards(folder: Path) -> tuple[list[Card], list[str]]:
    """The images of a folder in the order of their names, and what is wrong with others."""
    lines = {str(line["file"]): line for line in Manifest(folder).lines()}
    overlays: dict[str, list[tuple[str, Path]]] = {}
    images = written_images(folder)
    for path in images:
        stem, overlay, phrase = path.stem.partition(OVERLAY)
        if overlay:
            overlays.setdefault(stem, []).append((phrase.replace("-", " "), path))
    cards, wrong = [], []
    for path in images:
        if OVERLAY in path.name:
            continue
        try:
            kept = read_provenance(path)
            settings = parse_yaml(kept.run_file, f"run file in {path.name}").data
        except UserError as error:
            if path.with_suffix(".json").is_file() or path.name in lines:
                wrong.append(str(error))
            continue
        item = {**read_item(path), **lines.get(path.name, {})}
        for name, value in _mapping(item.get("metrics")).items():
            if isinstance(value, (int, float)) and not _is_finite(value):
                place = f"file '{path.name}', metric '{name}'"
                wrong.append(str(UserError(place, "a finite number", shortened(value), "It is left out.")))
        cards.append(
            Card(path, kept.run_file, _mapping(settings), kept.provenance, item, overlays.get(path.stem, ()))
        )
    return cards, wrong


def page(title: str, cards: Sequence[Card], wrong: Sequence[str] = ()) -> str:
    """The whole page, as HTML, with a row for each of the errors `wrong`."""
    scenes: dict[str, list[Card]] = {}
    for card in cards:
        scenes.setdefault(card.prompt, []).append(card)
    return render(
        "gallery",
        title=title,
        policy=POLICY,
        small=SMALL,
        count=_count,
        cards=cards,
        scenes=scenes,
        means=_means(cards),
        wrong=wrong,
    )


def _boxes(subjects: Any) -> Iterator[Box]:
    for number, subject in enumerate(subjects if isinstance(subjects, list) else []):
        box = _mapping(subject).get("box")
        if not isinstance(box, list) or len(box) != 4:
            continue
        if not all(_is_finite(side) and 0 <= side <= 1 for side in box):
            continue
        left, top, right, bottom = (100 * side for side in box)
        sides = (f"{side:g}" for side in (left, top, right - left, bottom - top))
        yield Box(str(subject.get("phrase", "")), color_of(number), *sides)


def _means(cards: Sequence[Card]) -> list[Mean]:
    values: dict[str, list[float]] = {}
    for card in cards:
        for name, value in card.metrics.items():
            values.setdefault(name, []).append(value)
    return [
        Mean(name, statistics.fmean(some), min(some), max(some), len(some)) for name, some in values.items()
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_finite(value: Any) -> bool:
    """Whether it is a number that a float can hold; an integer of JSON may be larger."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -sys.float_info.max <= value <= sys.float_info.max


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
