"""`weft show`: the pictures of a folder on one page that opens from the disk, without a server and without scripts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.jobs.manifest import Manifest
from ..core.provenance.write import OVERLAY, Provenance, read_item, read_provenance
from ..core.report.palette import color_of
from ..core.runfile.strict_yaml import parse_yaml
from ..core.storage.atomic import write_file
from .app import Exit
from .html import Html, element, link
from .show import out

PAGE = "index.html"
POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
SMALL = 160
"""Pixels up to which a picture is enlarged without smoothing."""

STYLE = """
:root{color-scheme:light dark;--ink:#23232b;--faint:#6d6d78;--paper:#fbfaf7;--card:#fff;--rule:#e3e0d8;--accent:#0072b2}
@media(prefers-color-scheme:dark){
:root{--ink:#e9e7e2;--faint:#a09fa8;--paper:#17171b;--card:#212127;--rule:#35353d;--accent:#6db9ea}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1500px;padding:2rem clamp(1rem,4vw,3rem);background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;font-weight:600;margin:2.2rem 0 .8rem;max-width:70ch}
p,.means{color:var(--faint);margin:.3rem 0}.means{border-collapse:collapse;font-variant-numeric:tabular-nums}
.means td,.means th{padding:.15rem 1.2rem .15rem 0;text-align:left;font-weight:400}
.bar{position:sticky;top:0;z-index:2;background:var(--paper);padding:.6rem 0;border-bottom:1px solid var(--rule)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:1.1rem;align-items:start}
@media(min-width:640px){figure:has(details[open]){grid-column:span 2}}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;overflow:hidden;
content-visibility:auto;contain-intrinsic-size:auto 300px}
.frame{position:relative;display:block}.frame img{display:block;width:100%;height:auto;background:var(--rule)}
.small{image-rendering:pixelated}
.box{position:absolute;border:2px solid var(--c);opacity:0;transition:opacity .15s}
.box b{position:absolute;left:-2px;top:-2px;background:var(--c);color:#fff;font:600 11px/1.5 system-ui;padding:0 .4em;
max-width:14em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.frame:hover .box,body:has(#boxes:checked) .box{opacity:1}
figcaption{padding:.6rem .8rem .7rem;font-size:13px;overflow-wrap:anywhere}
.chips span{display:inline-block;margin:0 .7em .1em 0;color:var(--faint)}.chips b{color:var(--ink);font-weight:600}
summary{cursor:pointer;color:var(--accent);margin-top:.3rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:11.5px/1.5 ui-monospace,monospace;margin:.5rem 0;max-height:22rem;
overflow:auto}
.overlays{display:grid;grid-template-columns:1fr 1fr;gap:.5rem;margin-top:.5rem;font-size:11.5px;color:var(--faint)}
.overlays img{width:100%;display:block;border-radius:5px}
"""


@dataclass(frozen=True)
class Card:
    """What is shown of a picture.

    Args:
        settings: of its run file, unchecked.
        item: swept settings, metrics and more.
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


def show(folder: Path) -> Exit:
    """Write `PAGE` into a folder of pictures; exit code 3 when some of them cannot be read."""
    if not folder.is_dir():
        raise UserError("DIR", "a folder of pictures", f"'{folder}'")
    cards, wrong = read_cards(folder)
    if not cards:
        raise UserError(f"folder '{folder}'", "pictures that weft has drawn", "none")
    path = write_file(page(folder.resolve().name, cards).encode(), folder / PAGE)
    out.print(f"{path} shows {len(cards)} pictures; open it in a browser.")
    for message in wrong[:10]:
        out.print(f"left out: {message}")
    return Exit.PARTIAL if wrong else Exit.OK


def read_cards(folder: Path) -> tuple[list[Card], list[str]]:
    """The pictures of a folder in the order of their names, and what is wrong with others."""
    lines = {str(line["file"]): line for line in Manifest(folder).lines()}
    overlays: dict[str, list[tuple[str, Path]]] = {}
    for path in sorted(folder.glob(f"*{OVERLAY}*.png")):
        stem, _, phrase = path.stem.partition(OVERLAY)
        overlays.setdefault(stem, []).append((phrase.replace("-", " "), path))
    cards, wrong = [], []
    for path in sorted(folder.glob("*.png")):
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
        known = settings if isinstance(settings, dict) else {}
        cards.append(Card(path, kept.run_file, known, kept.provenance, item, overlays.get(path.stem, ())))
    return cards, wrong


def page(title: str, cards: Sequence[Card]) -> str:
    """The whole page."""
    scenes: dict[str, list[Card]] = {}
    for card in cards:
        scenes.setdefault(card.prompt, []).append(card)
    head = (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    toggle = element(
        "div",
        element(
            "label", element("input", type="checkbox", id="boxes"), " show boxes (or point at a picture)"
        ),
        class_="bar",
    )
    count = f"{_count(len(cards), 'picture')}, {_count(len(scenes), 'scene')}"
    has_boxes = any(_boxes(card) for card in cards)
    body = (
        element("h1", title),
        element("p", count),
        _means(cards),
        toggle if has_boxes else "",
        *(
            element("section", element("h2", prompt), element("div", *map(_figure, some), class_="grid"))
            for prompt, some in scenes.items()
        ),
    )
    html = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!doctype html>\n{html}\n"


def _figure(card: Card) -> Html:
    sampler = card.settings.get("sampler")
    width, height = (_side(sampler, name) for name in ("width", "height"))
    image = element(
        "img",
        src=link(card.path.name),
        alt=f"{card.prompt}, seed {card.provenance.seed}",
        loading="lazy",
        decoding="async",
        width=width,
        height=height,
        class_="small" if width is not None and width <= SMALL else None,
    )
    frame = element("a", image, *_boxes(card), href=link(card.path.name), class_="frame")
    detail = element(
        "details",
        element("summary", "how it was made"),
        element("pre", card.run_file),
        element("pre", _origin(card.provenance)),
    )
    return element("figure", frame, element("figcaption", _chips(card), _overlays(card), detail))


def _boxes(card: Card) -> list[Html]:
    subjects = card.settings.get("subjects")
    made = []
    for number, subject in enumerate(subjects if isinstance(subjects, list) else []):
        box = subject.get("box") if isinstance(subject, dict) else None
        if not isinstance(box, list) or len(box) != 4:
            continue
        if not all(_is_number(part) and 0 <= part <= 1 for part in box):
            continue
        left, top, right, bottom = (100 * part for part in box)
        place = f"left:{left:g}%;top:{top:g}%;width:{right - left:g}%;height:{bottom - top:g}%"
        style = f"--c:{color_of(number)};{place}"
        made.append(element("span", element("b", subject.get("phrase", "")), class_="box", style=style))
    return made


def _chips(card: Card) -> Html:
    sweep, metrics = (_mapping(card.item.get(name)) for name in ("sweep", "metrics"))
    pairs: dict[str, object] = {"seed": card.provenance.seed, **sweep}
    pairs |= {name: f"{value:.3g}" for name, value in metrics.items() if _is_number(value)}
    chips = (element("span", f"{name} ", element("b", value)) for name, value in pairs.items())
    return element("div", *chips, class_="chips")


def _overlays(card: Card) -> Html:
    if not card.overlays:
        return Html()
    cells = (
        element(
            "div", element("img", src=link(path.name), alt=f"attention to {phrase}", loading="lazy"), phrase
        )
        for phrase, path in card.overlays
    )
    return element("details", element("summary", "attention"), element("div", *cells, class_="overlays"))


def _means(cards: Sequence[Card]) -> Html:
    """A table of the mean of every metric."""
    values: dict[str, list[float]] = {}
    for card in cards:
        for name, value in _mapping(card.item.get("metrics")).items():
            if _is_number(value):
                values.setdefault(str(name), []).append(float(value))
    rows = (
        element(
            "tr",
            element("th", name),
            element("td", f"mean {statistics.fmean(some):.3f}"),
            element("td", f"{min(some):.3g} to {max(some):.3g}"),
            element("td", _count(len(some), "picture")),
        )
        for name, some in values.items()
    )
    return element("table", *rows, class_="means") if values else Html()


def _origin(provenance: Provenance) -> str:
    plugins = "".join(f"{name}: {origin}\n" for name, origin in provenance.plugins.items())
    versions = ", ".join(f"{name} {number}" for name, number in provenance.libraries.items())
    files = "".join(f"{digest[:16]} {name}\n" for name, digest in provenance.model.items())
    references = "".join(f"{digest[:16]} {name}\n" for name, digest in provenance.references.items())
    machine = f"{provenance.device} ({provenance.hardware}), {provenance.dtype}, {provenance.threads} threads"
    return f"{machine}\n{versions}\n{plugins}{files}{references}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _side(sampler: Any, name: str) -> int | None:
    side = _mapping(sampler).get(name)
    return side if isinstance(side, int) and 0 < side <= 65536 else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
