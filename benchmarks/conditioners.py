"""What does each trained conditioner add, on subjects, layouts and captions that no training has seen?

Every row is drawn by `generate` with and without its conditioners and read by the judge, ``weft.zoo.judge``. Counted:

- identity: the thing seen where the subject should be is nearest to that subject among 50 held-out ones, each known by
  the mean embedding of four other portraits (a subject that is not seen is wrong);
- noun, background: the caption's, although the reference pictures show another background;
- IoU: of each box asked for with the seen thing of that noun and colour, 0 where there is none; AP50 is the mean over
  nouns of the average precision at IoU 0.5, by the judge's scores (VOC 2010, all points);
- inside: the share of the pixels of the asked noun that lie inside the mask, by the judge's segmenter;
- in place: for every subject the nearest of 50 is itself, in its own box (IoU of at least 0.5).

Intervals are bootstraps over cases, as the images of one case are alike. The guidance scale was
chosen on other cases (``--first``).

    python benchmarks/conditioners.py                        # all rows, hours on 2 cores; a killed run goes on
    python benchmarks/conditioners.py --rows pseudo_word --cases 20     # a quick look, to the console alone
    python benchmarks/conditioners.py --cases 20 --look                 # one that is kept, in conditioners_look.*
    python benchmarks/conditioners.py --weights DIR ...      # weights of DIR/NAME.safetensors, not the model's own
    python benchmarks/conditioners.py --first 1000 ...       # other cases, to choose by: no part of a result
    python benchmarks/conditioners.py --part 0/2             # one of two processes that share the work; then without it
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from bench_helpers import ROOT
from bench_helpers.judged import ENOUGH, Kept, digest, parser, pixels, write
from einops import rearrange
from PIL import Image
from quality import bootstrap
from torch.nn import functional as F

import weft
from weft import zoo
from weft.core.api.registry import registry
from weft.core.report.statistics import resampled
from weft.zoo import judge, world
from weft.zoo.judge.evaluate import digests
from weft.zoo.judge.model import Seen, overlap
from weft.zoo.judge.pictures import views
from weft.zoo.training.conditioners.records import name, reference

CHUNK: Final = 10
GROUP: Final = 50
RESAMPLES: Final = 2_000
BACKGROUNDS: Final = tuple(world.BACKGROUNDS)


@dataclass(frozen=True)
class Settings:
    """What a result depends on, besides the weights."""

    seeds: int = 4
    steps: int = 12
    scheduler: str = "dpmpp_2m"
    scale: float = 3.0


@dataclass(frozen=True)
class Case:
    """A scene and what should be seen: background; each thing's noun, colour, individual; its box if ``placed``."""

    scene: weft.Scene
    things: tuple[world.Thing, ...]
    background: str
    placed: bool = True


@dataclass(frozen=True)
class Row:
    """Some cases, drawn with some conditioners.

    Rows of the same ``plain`` have the same cases, but for the reference pictures, which no image drawn without
    conditioners depends on: those are drawn and read once.
    """

    title: str
    conditioners: tuple[str, ...]
    plain: str
    cases: Callable[[int], Case]
    measures: tuple[str, ...]


def _rng(kind: int, number: int) -> np.random.Generator:
    return np.random.default_rng([13, kind, number])


def alone(pictures: int) -> Callable[[int], Case]:
    """A held-out individual on a background that its reference pictures do not show."""

    def case(number: int) -> Case:
        rng = _rng(1, number)
        subject = world.HELD_OUT_SUBJECTS[number % len(world.HELD_OUT_SUBJECTS)]
        noun = world.subject(subject).noun
        shown, asked = (BACKGROUNDS[i] for i in rng.permutation(len(BACKGROUNDS))[:2])
        images = tuple(
            Image.fromarray(world.portrait(subject, k, background=shown).image(64)) for k in range(pictures)
        )
        prompt = world.describe(asked, [(noun, None, None, None, subject)])
        scene = weft.Scene(prompt, subjects=(weft.Subject(noun, images=images),))
        thing = world.Thing(noun, None, None, (0.0, 0.0, 1.0, 1.0), subject)
        return Case(scene, (thing,), asked, placed=False)

    return case


def layouts(number: int) -> Case:
    """A held-out caption of one to four things, each with the box that it has in a picture of that caption."""
    return _placed(world.sample(20_000 + number, "held_out", count=1 + number % 4, subjects=0.0))


def rare(number: int) -> Case:
    """Two things of one noun in two colours, which few training pictures show."""
    rng = _rng(2, number)
    noun = world.NOUNS[rng.integers(len(world.NOUNS))]
    colors = [tuple(world.COLORS)[i] for i in rng.permutation(len(world.COLORS))[:2]]
    wanted = [(noun, color, "plain", None, None) for color in colors]
    return _placed(world.compose(BACKGROUNDS[rng.integers(len(BACKGROUNDS))], wanted, 30_000 + number))


def together(count: int) -> Callable[[int], Case]:
    """Held-out individuals of different nouns, each in a box of its own, with one reference picture each."""

    def case(number: int) -> Case:
        rng = _rng(3 + count, number)
        chosen: list[int] = []
        for i in rng.permutation(len(world.HELD_OUT_SUBJECTS)):
            subject = world.HELD_OUT_SUBJECTS[int(i)]
            if all(world.subject(subject).noun != world.subject(other).noun for other in chosen):
                chosen.append(subject)
            if len(chosen) == count:
                break
        wanted = [(world.subject(s).noun, None, None, None, s) for s in chosen]
        return _placed(world.compose(BACKGROUNDS[rng.integers(len(BACKGROUNDS))], wanted, 40_000 + number))

    return case


def masked(number: int) -> Case:
    """One thing whose very silhouette is asked for."""
    return _placed(world.sample(50_000 + number, "held_out", count=1, subjects=0.0), masks=True)


def _placed(picture: world.Picture, masks: bool = False) -> Case:
    silhouettes = [Image.fromarray(mask.astype(np.uint8) * 255) for mask in picture.masks(64)]
    subjects = tuple(
        weft.Subject(
            name(thing),
            images=() if thing.subject is None else (reference(thing.subject, 0),),
            box=thing.box,
            mask=silhouette if masks else None,
        )
        for thing, silhouette in zip(picture.objects, silhouettes, strict=True)
    )
    prompt = world.describe(picture.background, picture.objects)
    return Case(weft.Scene(prompt, subjects=subjects), picture.objects, picture.background)


KNOWN: Final = ("identity", "noun", "background")
PLACED: Final = ("in place", "iou", "background")
WANTED: Final = {
    ("pseudo_word", "identity"): (0.05, 0.7),
    ("grounding", "iou"): (None, 0.6),
    ("grounding", "ap50"): (None, 0.7),
    ("mask_location", "inside"): (None, 0.9),
    ("two subjects", "in place"): (None, 0.5),
}
"""At most, without the conditioners, and at least, with them, by row and measure."""
EVERY: Final = ("pseudo_word", "grounding", "mask_location", "subject_adapter")
ROWS: Final = {
    "pseudo_word": Row("one reference picture", ("pseudo_word",), "alone", alone(1), KNOWN),
    "pseudo_word, two": Row("two reference pictures", ("pseudo_word",), "alone", alone(2), KNOWN),
    "pseudo_word, four": Row("four reference pictures", ("pseudo_word",), "alone", alone(4), KNOWN),
    "fusion_text": Row("one reference picture", ("fusion_text",), "alone", alone(1), KNOWN),
    "subject_adapter": Row("one reference picture", ("subject_adapter",), "alone", alone(1), KNOWN),
    "grounding": Row("one to four boxes", ("grounding",), "layouts", layouts, ("iou", "ap50", "background")),
    "grounding, rare": Row(
        "two things of one noun", ("grounding",), "rare", rare, ("iou", "ap50", "background")
    ),
    "mask_location": Row(
        "one silhouette", ("mask_location",), "masked", masked, ("inside", "noun", "background")
    ),
    "two subjects": Row("two individuals in two boxes", EVERY, "two", together(2), PLACED),
    "two subjects, words and boxes": Row(
        "two individuals in two boxes", ("pseudo_word", "grounding"), "two", together(2), PLACED
    ),
    "three subjects": Row("three individuals in three boxes", EVERY, "three", together(3), PLACED),
}


def numbered(row: Row, first: int) -> Row:
    """A row whose case 0 is case ``first``."""
    return replace(row, cases=lambda number: row.cases(first + number))


@lru_cache(maxsize=8)
def gallery(first: int) -> torch.Tensor:
    """Unit vectors of the group of 50 held-out individuals that begins at ``first``, from portraits 100 to 103."""
    known = views(range(first, first + GROUP), range(100, 104), portraits=True)
    found = judge.identity(known.images.float() / 255, known.boxes)
    return F.normalize(rearrange(found, "(n k) d -> n k d", k=4).mean(1), dim=1)


def recognised(image: torch.Tensor, seen: Seen, subject: int) -> bool:
    """Whether what is seen is nearest to this individual among its 50."""
    start = world.HELD_OUT_SUBJECTS.start
    first = start + (subject - start) // GROUP * GROUP
    found = judge.identity(image[None], torch.tensor([seen.box]))
    return int((found @ gallery(first).T).argmax()) + first == subject


def score(case: Case, image: torch.Tensor, reading: judge.Reading) -> dict[str, Any]:
    """Everything that one image is asked about."""
    found: dict[str, Any] = {"background": reading.background == case.background}
    found["noun"] = all(any(s.noun == t.noun for s in reading.objects) for t in case.things)
    subjects = [thing for thing in case.things if thing.subject is not None]
    boxes = [_best(thing, reading.objects) for thing in case.things]
    found["iou"] = [round(value, 4) for value, _ in boxes]
    if subjects and not case.placed:
        found["identity"] = is_shown(image, reading, subjects[0])
    elif subjects:
        right = [
            seen is not None and value >= 0.5 and recognised(image, seen, int(thing.subject or 0))
            for thing, (value, seen) in zip(case.things, boxes, strict=True)
        ]
        found["in place"] = all(right)
        found["subjects in place"] = [bool(r) for r in right]
        found["identities"] = [is_shown(image, reading, thing) for thing in subjects]
    found["seen"] = [
        (s.noun, s.color, round(s.score, 3), [round(x, 3) for x in s.box]) for s in reading.objects
    ]
    if case.scene.subjects[0].mask is not None:
        found["inside"] = _inside(case, image)
    return found


def is_shown(image: torch.Tensor, reading: judge.Reading, thing: world.Thing) -> bool:
    """Whether the individual is seen, wherever it is."""
    seen = next((s for s in reading.objects if s.noun == thing.noun), None)
    return seen is not None and recognised(image, seen, int(thing.subject or 0))


def _best(thing: world.Thing, seen: Sequence[Seen]) -> tuple[float, Seen | None]:
    alike = [s for s in seen if s.noun == thing.noun and thing.color in (None, s.color)]
    pairs = [(overlap(thing.box, s.box), s) for s in alike]
    return max(pairs, key=lambda pair: pair[0]) if pairs else (0.0, None)


def _inside(case: Case, image: torch.Tensor) -> float | None:
    shown = judge.segment(image[None])[0] == 1 + world.NOUNS.index(case.things[0].noun)
    mask = case.scene.subjects[0].mask
    assert isinstance(mask, Image.Image)
    inside = torch.from_numpy(np.array(mask) >= 128)
    total = int(shown.sum())
    return None if total == 0 else round(float((shown & inside).sum() / total), 4)


def average_precision(rows: Sequence[tuple[Case, dict[str, Any]]]) -> float:
    """Mean over nouns of the area under precision and recall at IoU 0.5, every image a picture of its own."""
    values = []
    for noun in world.NOUNS:
        wanted = {
            (i, j): t for i, (case, _) in enumerate(rows) for j, t in enumerate(case.things) if t.noun == noun
        }
        if not wanted:
            continue
        seen = sorted(
            ((s[2], i, s) for i, (_, found) in enumerate(rows) for s in found["seen"] if s[0] == noun),
            key=lambda x: -x[0],
        )
        taken: set[tuple[int, int]] = set()
        hits = []
        for _, i, (_, color, _, box) in seen:
            free = [
                (overlap(t.box, tuple(box)), key)
                for key, t in wanted.items()
                if key[0] == i and key not in taken and t.color in (None, color)
            ]
            best = max(free, default=(0.0, (-1, -1)))
            hits.append(best[0] >= 0.5)
            if hits[-1]:
                taken.add(best[1])
        right = np.cumsum(hits) if hits else np.zeros(0)
        precision = right / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        values.append(float(sum(p for p, hit in zip(envelope, hits, strict=True) if hit) / len(wanted)))
    return float(np.mean(values))


def made(name: str, weights: Path) -> weft.Conditioner:
    """A conditioner with the weights in a folder."""
    kind: Any = registry().plugin(name, "conditioner")
    plugin = kind(weights=weights / f"{name}.safetensors")
    assert isinstance(plugin, weft.Conditioner)
    return plugin


def measure(
    pipe: weft.Pipeline,
    arm: str,
    cases: Callable[[int], Case],
    conditioners: Sequence[weft.Conditioner],
    count: int,
    settings: Settings,
    kept: Kept,
    share: tuple[int, int],
    guidance: Sequence[weft.Guidance] | None = None,
) -> None:
    """Draw and read what is not kept yet; of ``share`` = (i, n) every n-th chunk, from the i-th on.

    The guidance is classifier-free, at the settings' scale, unless another chain is given.
    """
    begun = time.monotonic()
    for start in range(share[0] * CHUNK, count, share[1] * CHUNK):
        numbers = [n for n in range(start, min(start + CHUNK, count)) if (arm, n) not in kept.done]
        if not numbers:
            continue
        chosen = [cases(number) for number in numbers]
        first = 90_000 + numbers[0] // CHUNK * settings.seeds
        result = pipe.generate(
            [case.scene for case in chosen],
            conditioners=conditioners,
            guidance=[weft.ClassifierFree(settings.scale)] if guidance is None else guidance,
            steps=settings.steps,
            scheduler=settings.scheduler,
            seeds=range(first, first + settings.seeds),
            batch_size=40,
            attention=False,
        )
        images = pixels(result.images)
        readings = judge.read(images)
        for k, (number, case) in enumerate(zip(numbers, chosen, strict=True)):
            span = range(k * settings.seeds, (k + 1) * settings.seeds)
            kept.add(arm, number, [score(case, images[i], readings[i]) for i in span])
        print(f"{arm}: {numbers[-1] + 1} of {count}, {time.monotonic() - begun:.0f} s", flush=True)


def summary(row: Row, arm: str, count: int, kept: Kept) -> dict[str, Any]:
    """Means of the row's measures with their intervals."""
    known = [n for n in range(count) if (arm, n) in kept.done]
    images, cases = [kept.done[arm, n] for n in known], [row.cases(n) for n in known]
    results: dict[str, Any] = {}
    for measure_ in row.measures:
        if measure_ == "ap50":
            results[measure_] = _resampled(
                lambda picks: average_precision([(cases[i], found) for i in picks for found in images[i]]),
                len(cases),
                200,
            )
        elif measure_ in ("iou", "inside", "identities"):
            values = [
                [x for found in one for x in np.atleast_1d(found[measure_]) if x is not None]
                for one in images
            ]
            table = np.array([(sum(v), len(v)) for v in values], dtype=float)
            results[measure_] = _resampled(
                lambda picks, t=table: float(t[picks].sum(0)[0] / t[picks].sum(0)[1]), len(table)
            )
        else:
            results[measure_] = bootstrap(
                [(sum(found[measure_] for found in one), len(one)) for one in images]
            )
    return results


def _resampled(value: Callable[[Any], float], n: int, times: int = RESAMPLES) -> dict[str, Any]:
    low, high = resampled(lambda picks: np.array([value(one) for one in picks]), n, times)
    return {
        "share": round(value(np.arange(n)), 4),
        "interval": [round(low, 4), round(high, 4)],
        "captions": n,
    }


def table(results: dict[str, Any]) -> str:
    """Markdown: a line a row and measure."""
    lines = ["| row | measure | without | with | wanted | cases |", "|---|---|---|---|---|---|"]

    for row, (without, present) in results.items():
        title = f"`{'` + `'.join(ROWS[row].conditioners)}`, {ROWS[row].title}"
        for name_, value in present.items():
            most, least = WANTED.get((row, name_), (None, None))
            bars = (
                []
                if most is None
                else [judged(without[name_]["share"] <= most, f"without at most {most:.0%}")]
            )
            bars += [] if least is None else [judged(value["share"] >= least, f"with at least {least:.0%}")]
            cells = (title, name_, shown(without[name_]), shown(value), "; ".join(bars), value["captions"])
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def shown(value: dict[str, Any]) -> str:
    """A share with its interval."""
    low, high = value["interval"]
    return f"{100 * value['share']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def judged(holds: bool, bar: str) -> str:
    """A bar, and whether the mean holds it."""
    return bar if holds else f"{bar}: missed"


def main() -> None:
    """Draw, read, write benchmarks/results/conditioners.json and conditioners.md."""
    asked = parser(__doc__, "conditioners-kept")
    asked.add_argument("--first", type=int, default=0, help="number of the first case; 0 in a result")
    asked.add_argument("--look", action="store_true", help="write fewer cases or rows to conditioners_look.*")
    asked.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    asked.add_argument("--model", default="tiny", help="a name in the zoo, or a folder in diffusers layout")
    asked.add_argument(
        "--weights", type=Path, help="a folder of the conditioners' weights; MODEL/weft by default"
    )
    arguments = asked.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = Settings()
    folder = Path(zoo.__path__[0]) / arguments.model
    folder = folder if folder.is_dir() else Path(arguments.model)
    weights = arguments.weights or folder / "weft"
    pipe = weft.load(str(folder))
    results = {}
    for title in arguments.rows:
        row, found = numbered(ROWS[title], arguments.first), []
        for names in ((), row.conditioners):
            arm = title if names else row.plain
            further = [arguments.first] * bool(arguments.first)
            key = digest(asdict(settings), used(folder, weights, names), CHUNK, arm, *further)
            kept = Kept.of_part(arguments.kept, key, arguments.part)
            conditioners = [made(one, weights) for one in names]
            measure(pipe, arm, row.cases, conditioners, arguments.cases, settings, kept, arguments.part)
            found.append((arm, kept))
        if arguments.part[1] == 1:
            results[title] = [summary(row, arm, arguments.cases, kept) for arm, kept in found]
    if arguments.part[1] > 1:
        return
    text = table(results)
    print(text)
    whole = arguments.cases >= ENOUGH and set(arguments.rows) == set(ROWS)
    if arguments.first or (not whole and not arguments.look):
        return
    name = "conditioners" if whole else "conditioners_look"
    chance = json.loads((ROOT / "benchmarks/results/identity_parts.json").read_text())["rows"][
        "all but the noun"
    ]
    about = (
        f"{settings.seeds} seeds, {settings.steps} steps of {settings.scheduler}, guidance scale {settings.scale}, "
        "read by the judge. Intervals: bootstrap over cases. Without conditioners identity is chance: a perfect "
        f"picture of another individual of the noun is named so in {shown(chance)}, where at most 5 % are wanted "
        "(identity_parts.md). What was tried: docs/training.md."
    )
    report = {
        "settings": asdict(settings),
        "weights": used(folder, weights, {name for row in ROWS.values() for name in row.conditioners}),
        "rows": results,
    }
    write(name, "The conditioners of `tiny`" + ("" if whole else ", a first look"), about, text, report)


def used(folder: Path, weights: Path, conditioners: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the weights that take part: the model's own, the conditioners', and the judge's."""
    names = {f"{name}.safetensors" for name in conditioners}
    model = {name: value for name, value in digests(folder).items() if not name.startswith("weft/")}
    trained = {f"weft/{name}": value for name, value in digests(weights).items() if name in names}
    seen = {f"judge/{name}": value for name, value in digests(Path(judge.__path__[0])).items()}
    return model | trained | seen


if __name__ == "__main__":
    main()
