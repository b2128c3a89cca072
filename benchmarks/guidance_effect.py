"""What do `attend_and_excite` and `layout` change, where plain sampling loses an object?

Held-out captions are drawn four times from the same noise: with classifier-free guidance alone, with Attend-and-Excite
before it, with and without its term that keeps subjects apart, and with `layout` before it. Two groups of captions:

- pairs: two objects of one colour, such as "a brown moon and a brown boat", of which the model tends to draw one twice;
- many: three and four objects.

The judge, ``weft.zoo.judge``, reads the images. For `layout` the boxes of a picture of the caption are given; no
trained plugin takes part. Counted:

- lost: objects whose noun is not seen in the caption's colour (an attribute that changed owners is one lost object);
- noun lost: objects whose noun is not seen, whatever the colour;
- more: things that are seen beyond the number that the caption names;
- IoU: of each box with the seen thing of its noun and colour that overlaps it most, 0 where there is none.

The settings are the package's defaults, but for the scale and the size of the maps of Attend-and-Excite, whose defaults
are those of Stable Diffusion. What is set, and pairs of one colour as what to look at, was chosen on captions of the
train split (``--split train``), which take no part in the figures. Intervals are bootstraps over captions, paired by
noise.

    python benchmarks/guidance_effect.py                # 200 captions a group, hours on 2 cores; a killed run goes on
    python benchmarks/guidance_effect.py --cases 4      # a quick look, to the console alone
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from bench_helpers.judged import ENOUGH, Kept, digest, gain, interval, parser, percent, pixels, ratio, write
from quality import weights

import weft
from weft import zoo
from weft.zoo import judge, world
from weft.zoo.judge.model import overlap

CHUNK: Final = 10
BAR_LOST: Final = 1 / 3
BAR_PLAIN: Final = 0.2


@dataclass(frozen=True)
class Settings:
    """What a result depends on, besides the weights."""

    split: str = "held_out"
    seeds: int = 2
    steps: int = 50
    scheduler: str = "ddim"
    guidance_scale: float = 7.5
    excite_scale: float = 1.0
    excite_positions: int = 64
    excite_separation: float = 3.0
    layout_scale: float = 30.0
    layout_steps: int = 10
    layout_updates: int = 5

    def arms(self) -> dict[str, list[weft.Guidance]]:
        """The chains that are compared."""
        last = weft.ClassifierFree(self.guidance_scale)
        excite = weft.AttendAndExcite(self.excite_scale, positions=self.excite_positions)
        apart = replace(excite, separation=self.excite_separation)
        layout = weft.Layout(self.layout_scale, steps=self.layout_steps, updates=self.layout_updates)
        return {
            "plain": [last],
            "attend_and_excite": [excite, last],
            "attend_and_excite, apart": [apart, last],
            "layout": [layout, last],
        }


@dataclass(frozen=True)
class Case:
    """A picture of the world and the scene that describes it, a subject for each object's noun."""

    picture: world.Picture
    scene: weft.Scene


def pair(number: int, split: str) -> Case:
    """Two objects of two nouns and one colour."""
    for attempt in itertools.count(1000 * number):
        picture = world.sample(attempt, split, count=2, subjects=0.0)
        one, other = picture.objects
        if one.color == other.color and one.noun != other.noun:
            return described(picture)
    raise AssertionError


def many(number: int, split: str) -> Case:
    """Three objects where the number is even, four where it is odd."""
    return described(world.sample(number, split, count=3 + number % 2, subjects=0.0))


def described(picture: world.Picture) -> Case:
    """The picture with its scene."""
    met: Counter[str] = Counter()
    subjects = []
    nouns = Counter(thing.noun for thing in picture.objects)
    for thing in picture.objects:
        met[thing.noun] += 1
        occurrence = met[thing.noun] if nouns[thing.noun] > 1 else None
        subjects.append(weft.Subject(thing.noun, box=thing.box, occurrence=occurrence))
    return Case(picture, weft.Scene(world.describe(picture.background, picture.objects), tuple(subjects)))


GROUPS: Final = {"pairs": pair, "many": many}


def score(picture: world.Picture, seen: judge.Reading) -> dict[str, float]:
    """What one image is asked about; see the top of this file."""
    wanted = Counter((thing.noun, thing.color) for thing in picture.objects)
    found = Counter((thing.noun, thing.color) for thing in seen.objects)
    nouns = Counter(thing.noun for thing in picture.objects)
    seen_nouns = Counter(thing.noun for thing in seen.objects)
    overlaps = [
        max(
            (overlap(t.box, s.box) for s in seen.objects if (s.noun, s.color) == (t.noun, t.color)),
            default=0.0,
        )
        for t in picture.objects
    ]
    lost = (wanted - found).total()
    return {
        "objects": len(picture.objects),
        "lost": lost,
        "noun lost": (nouns - seen_nouns).total(),
        "loses one": float(lost > 0),
        "more": max(0, len(seen.objects) - len(picture.objects)),
        "iou": round(sum(overlaps), 4),
        "images": 1,
    }


def measure(
    pipe: weft.Pipeline,
    groups: Sequence[str],
    count: int,
    settings: Settings,
    kept: Kept,
    share: tuple[int, int],
) -> None:
    """Draw and read what is not kept yet; of ``share`` = (i, n) every n-th chunk, from the i-th on."""
    jobs = [
        (group, arm, start) for group in groups for arm in settings.arms() for start in range(0, count, CHUNK)
    ]
    begun = time.monotonic()
    for index, (group, arm, start) in list(enumerate(jobs))[share[0] :: share[1]]:
        row = f"{group}, {arm}"
        numbers = [n for n in range(start, min(start + CHUNK, count)) if (row, n) not in kept.done]
        if not numbers:
            continue
        chosen = [GROUPS[group](number, settings.split) for number in numbers]
        # every chunk has noise of its own, so that no layout of one seed weighs on all captions
        first = 200_000 + start // CHUNK * settings.seeds
        result = pipe.generate(
            [one.scene for one in chosen],
            guidance=settings.arms()[arm],
            steps=settings.steps,
            scheduler=settings.scheduler,
            seeds=range(first, first + settings.seeds),
            batch_size=CHUNK * settings.seeds,
            attention=False,
        )
        readings = judge.read(pixels(result.images))
        for k, (number, one) in enumerate(zip(numbers, chosen, strict=True)):
            span = readings[k * settings.seeds : (k + 1) * settings.seeds]
            kept.add(row, number, [score(one.picture, reading) for reading in span])
        lost = sum(image["lost"] for n in numbers for image in kept.done[row, n]) / len(result)
        spent = time.monotonic() - begun
        print(
            f"{row} {numbers[-1] + 1}: {lost:.2f} lost an image, {spent:.0f} s, {index + 1} of {len(jobs)}",
            flush=True,
        )


def summary(kept: Kept, group: str, count: int, settings: Settings) -> dict[str, Any]:
    """Every arm's rates on one group, and what each strategy changes against plain sampling."""
    arms = list(settings.arms())
    numbers = [n for n in range(count) if all((f"{group}, {arm}", n) in kept.done for arm in arms)]

    def sums(arm: str, *names: str) -> list[list[float]]:
        return [
            [sum(image[name] for image in kept.done[f"{group}, {arm}", n]) for name in names] for n in numbers
        ]

    per = {
        "lost": "objects",
        "noun lost": "objects",
        "loses one": "images",
        "more": "images",
        "iou": "objects",
    }
    rates = {arm: {name: interval(sums(arm, name, of), ratio) for name, of in per.items()} for arm in arms}
    changes: dict[str, Any] = {}
    for arm in arms[1:]:
        changes[arm] = {}
        for name in ("lost", "noun lost"):
            cut = [[p - a, p] for (a,), (p,) in zip(sums(arm, name), sums("plain", name), strict=True)]
            changes[arm][f"{name}, cut by"] = interval(cut, ratio)
        broken = [
            [sum(map(loses, here, there)), sum(not image["lost"] for image in there)]
            for here, there in ((kept.done[f"{group}, {one}", n] for one in (arm, "plain")) for n in numbers)
        ]
        changes[arm]["lose one, of the images that plain draws right"] = interval(broken, ratio)
        triples = [
            [a, p, n] for (a, n), (p,) in zip(sums(arm, "iou", "objects"), sums("plain", "iou"), strict=True)
        ]
        changes[arm]["iou, gained"] = interval(triples, gain)
    return {"rates": rates, "changes": changes, "captions": len(numbers)}


def loses(image: dict[str, float], plain: dict[str, float]) -> bool:
    """Whether an image loses an object where the plain one of the same noise loses none."""
    return bool(image["lost"]) and not plain["lost"]


def table(found: dict[str, dict[str, Any]]) -> str:
    """The rates and the changes of every group as Markdown."""
    titles = {
        "lost": "objects lost",
        "noun lost": "objects whose noun is not seen",
        "loses one": "images that lose one",
        "more": "things too many, an image",
        "iou": "IoU with the boxes, mean",
    }
    arms = list(next(iter(found.values()))["rates"])
    lines = ["| | | " + " | ".join(arms) + " |", "|" + "---|" * (len(arms) + 2)]
    for group, one in found.items():
        for name, title in titles.items():
            cells = [percent(one["rates"][arm][name]) for arm in arms]
            lines.append(f"| {group} | {title} | " + " | ".join(cells) + " |")
        for name in one["changes"][arms[1]]:
            cells = ["", *(percent(one["changes"][arm][name]) for arm in arms[1:])]
            lines.append(f"| {group} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    """The command line; every field of `Settings` is an option."""
    options = parser(__doc__, "guidance_effect")
    options.add_argument("--groups", nargs="*", default=list(GROUPS), choices=list(GROUPS))
    for name, value in asdict(Settings()).items():
        options.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return options.parse_args()


def main() -> None:
    """Draw, read, write benchmarks/results/guidance_effect.json and .md."""
    options = parsed()
    torch.set_num_threads(options.threads)
    settings = Settings(**{name: getattr(options, name) for name in asdict(Settings())})
    folder = Path(zoo.__path__[0]) / "tiny"
    key = digest(asdict(settings), weights(folder), CHUNK)
    kept = Kept.of_part(options.kept, key, options.part)
    measure(weft.load(str(folder)), options.groups, options.cases, settings, kept, options.part)
    if options.part[1] > 1:
        return
    found = {group: summary(kept, group, options.cases, settings) for group in options.groups}
    text = table(found)
    print(text)
    if options.cases < ENOUGH or settings.split != "held_out":
        return
    bars = {
        "plain images that lose one, at least": BAR_PLAIN,
        "lost objects, cut by attend_and_excite by at least": BAR_LOST,
    }
    used = ", ".join(f"{name} {value}" for name, value in asdict(settings).items())
    about = (
        f"{options.cases} held-out captions a group, read by the judge; 95 % intervals by bootstrap over captions. "
        "Pairs are two objects of one colour, many are three and four objects. Apart is with `separation`. "
        f"Settings: {used}."
    )
    report = {
        "settings": asdict(settings),
        "weights": weights(folder),
        "bars": bars,
        "groups": found,
    }
    write("guidance_effect", "What Attend-and-Excite and layout change", about, text, report)


if __name__ == "__main__":
    main()
