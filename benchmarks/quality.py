"""How often does the shipped model draw what a caption says?

Captions of the held-out split are drawn with several seeds and read by the judge, ``weft.zoo.judge``, a network trained
on renders alone. Counted as right:

- one object: an object with the caption's noun and colour is seen, and no other object;
- two objects: both pairs of noun and colour are seen, in two objects;
- background: the background of the caption is seen (one and two objects, captions that name one).

The same captions' own renders, encoded and decoded by the model's autoencoder, say how much of the error is the judge's
and the autoencoder's. Intervals are bootstraps over captions, as images of one caption are alike.

    python benchmarks/quality.py                # about half an hour on 2 cores; a killed run continues where it was
    python benchmarks/quality.py --cases 20     # a quick look, written to the console alone
    python benchmarks/quality.py --part 0/2     # one of two processes that share the work; then without it
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from bench_helpers import ROOT
from numpy.typing import NDArray
from PIL import Image

import weft
from weft import zoo
from weft.core.report.statistics import resampled, share_interval
from weft.zoo import judge, world
from weft.zoo.judge.evaluate import digests, machine
from weft.zoo.world.captions import phrase

SPLITS: Final = {"one object": (1,), "two objects": (2,), "three and four objects": (3, 4)}
CHUNK: Final = 10
"""Captions that are drawn, read and kept together."""


@dataclass(frozen=True)
class Settings:
    """What a result depends on, besides the weights."""

    model: str = "tiny"
    seeds: int = 4
    steps: int = 50
    scheduler: str = "ddim"
    scale: float = 7.5


@dataclass(frozen=True)
class Case:
    """A caption and the picture that it describes."""

    split: str
    number: int
    picture: world.Picture

    @property
    def caption(self) -> str:
        return self.picture.caption(0)

    @property
    def names_background(self) -> bool:
        return any(words in self.caption for words in world.BACKGROUND_PHRASES[self.picture.background])


def cases(count: int) -> Iterator[list[Case]]:
    """Chunks of ``count`` held-out cases for one and for two objects, and of half as many for three and for four."""
    for split, counts in SPLITS.items():
        total = count if len(counts) == 1 else count // 2 * len(counts)
        chosen = [
            Case(split, i, world.sample(i, "held_out", count=counts[i % len(counts)], subjects=0.0))
            for i in range(total)
        ]
        yield from (chosen[i : i + CHUNK] for i in range(0, total, CHUNK))


def draw(
    pipe: weft.Pipeline, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
) -> list[list[Image.Image]]:
    """A picture of every prompt with every seed."""
    result = pipe.generate(
        [weft.Scene(prompt) for prompt in prompts],
        guidance=[weft.ClassifierFree(settings.scale)],
        steps=settings.steps,
        scheduler=settings.scheduler,
        seeds=seeds,
        batch_size=40,
        attention=False,
    )
    return [result.images[i : i + len(seeds)] for i in range(0, len(result.images), len(seeds))]


def _tensor(images: Sequence[Image.Image | np.ndarray[Any, Any]]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]).float() / 255


def score(case: Case, seen: judge.Reading) -> dict[str, bool]:
    """What is right in one image; a key is missing where the caption does not say."""
    wanted = [(thing.noun, str(thing.color)) for thing in case.picture.objects]
    found = [(thing.noun, thing.color) for thing in seen.objects]
    present = all(found.count(pair) >= wanted.count(pair) for pair in wanted)
    right = {"present": present, "exact": present and len(found) == len(wanted)}
    right["nouns, whatever the colour"] = sorted(n for n, _ in found) == sorted(n for n, _ in wanted)
    if case.names_background:
        right["background"] = seen.background == case.picture.background
    if present:
        boxes = {(t.noun, t.color): t for t in seen.objects}
        right["patterns, of those present"] = all(
            boxes[t.noun, str(t.color)].pattern == t.pattern for t in case.picture.objects
        )
        said = _relation(case)
        if said is not None:
            one, relation, other = said
            right["relation, of those present"] = relation in world.relations(
                boxes[one].box, boxes[other].box
            )
    return right


def _relation(case: Case) -> tuple[tuple[str, str], str, tuple[str, str]] | None:
    """The pair of objects that the caption relates, and how."""
    for one in case.picture.objects:
        for other in case.picture.objects:
            words = "|".join(world.RELATIONS)
            first, second = (phrase(t.noun, t.color, t.pattern) for t in (one, other))
            match = re.search(f"{first} ({words}) {second}", case.caption) if one is not other else None
            if match:
                return (one.noun, str(one.color)), match[1], (other.noun, str(other.color))
    return None


def bootstrap(values: Sequence[tuple[int, int]]) -> dict[str, float | int | list[float]]:
    """Share and percentile interval of (right, n) by caption, captions resampled.

    Where all captions are right, or none, resampling shows no spread: Wilson's interval of so many captions is given.
    """
    table = np.array(values, dtype=np.float64)

    def share(picks: NDArray[np.int64]) -> NDArray[np.float64]:
        sums = table[picks].sum(axis=1)
        return np.asarray(sums[:, 0] / sums[:, 1])

    right, n = table.sum(axis=0)
    if right in (0, n):
        low, high = share_interval(len(table) if right else 0, len(table))
    else:
        low, high = resampled(share, len(table))
    return {
        "share": round(float(right / n), 4),
        "interval": [round(low, 4), round(high, 4)],
        "images": int(n),
        "captions": len(table),
    }


def summary(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Rates by split of the kept scores of one kind, "drawn" or "rebuilt"."""
    rates: dict[str, Any] = {}
    shares: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in rows:
        names = dict.fromkeys(name for scores in row[kind] for name in scores)
        for name in names:
            outcomes = [scores[name] for scores in row[kind] if name in scores]
            pooled = name == "background" and row["split"] in ("one object", "two objects")
            split = "one and two objects" if pooled else row["split"]
            shares.setdefault((split, name), []).append((sum(outcomes), len(outcomes)))
    for (split, name), values in shares.items():
        rates.setdefault(split, {})[name] = bootstrap(values)
    return rates


HEADLINES: Final = (
    ("one object", "exact", "one object: noun and colour right, nothing else", 0.90),
    ("two objects", "present", "two objects: both nouns with their colours", 0.60),
    ("one and two objects", "background", "background", 0.95),
)


def table(rates: dict[str, Any], rebuilt: dict[str, Any]) -> str:
    """The rates as Markdown: the three that matter, then all."""
    lines = [
        "| what | aim | right | 95 % interval | n | judge and autoencoder alone |",
        "|" + "---|" * 6,
    ]

    def line(title: str, aim: str, split: str, name: str) -> str:
        r = rates[split][name]
        low, high = r["interval"]
        top = rebuilt.get(split, {}).get(name)
        ceiling = "" if top is None else f"{100 * top['share']:.1f} %"
        share = f"{100 * r['share']:.1f} % | {100 * low:.1f} to {100 * high:.1f}"
        return f"| {title} | {aim} | {share} | {r['captions']} captions, {r['images']} images | {ceiling} |"

    lines += [
        line(f"**{title}**", f"{100 * aim:.0f} %", split, name)
        for split, name, title, aim in HEADLINES
        if name in rates.get(split, {})
    ]
    lines += [line(f"{split}: {name}", "", split, name) for split, names in rates.items() for name in names]
    return "\n".join(lines)


def weights(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights that take part: the model without its plugins', and the judge's detector."""
    model = {name: value for name, value in digests(folder).items() if not name.startswith("weft/")}
    return model | {"judge/detector": digests(Path(judge.__path__[0]))["detector.safetensors"]}


def key(settings: Settings, folder: Path) -> str:
    """A digest of all that the kept scores depend on."""
    text = json.dumps([asdict(settings), weights(folder), CHUNK])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measure(
    count: int, settings: Settings, kept: Path, folder: Path, part: tuple[int, int] = (0, 1)
) -> list[dict[str, Any]]:
    """Scores of all cases; those in ``kept`` are not drawn again, new ones are added to it chunk by chunk.

    Of ``part`` = (i, n) every n-th chunk is measured, from the i-th on.
    """
    rows: list[dict[str, Any]] = []
    if kept.exists():
        whole = kept.read_text().rpartition("\n")[0]
        rows = [json.loads(line) for line in whole.splitlines()]
        if part[1] == 1:
            kept.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = {(row["split"], row["number"]): row for row in rows}
    chunks = list(cases(count))[part[0] :: part[1]]
    pipe = weft.load(str(folder))
    begun, drawn = time.monotonic(), 0
    for index, chunk in enumerate(chunks):
        chunk = [case for case in chunk if (case.split, case.number) not in done]
        if not chunk:
            continue
        # every chunk has noise of its own, so that no layout of one seed weighs on all captions
        first = (list(SPLITS).index(chunk[0].split) * 10_000 + chunk[0].number // CHUNK) * settings.seeds
        seeds = range(first, first + settings.seeds)
        images = draw(pipe, [case.caption for case in chunk], seeds, settings)
        renders = _tensor([case.picture.image(pipe.size[0]) for case in chunk]) * 2 - 1
        with torch.no_grad():
            rebuilt = pipe.decode(pipe.view(pipe.size).latents(renders))
        again = judge.read(_tensor(rebuilt))
        with kept.open("a") as file:
            for case, pictures, other in zip(chunk, images, again, strict=True):
                scores = [score(case, reading) for reading in judge.read(_tensor(pictures))]
                row = {"split": case.split, "number": case.number, "caption": case.caption, "drawn": scores}
                row["rebuilt"] = [score(case, other)]
                done[case.split, case.number] = row
                file.write(json.dumps(row) + "\n")
        drawn += len(chunk)
        spent = time.monotonic() - begun
        left = sum(len(c) for c in chunks[index + 1 :]) * spent / drawn
        right = np.mean([s["present"] for case in chunk for s in done[case.split, case.number]["drawn"]])
        print(
            f"{chunk[0].split} {chunk[-1].number + 1}: present {right:.2f}, {spent:.0f} s, {left:.0f} s left",
            flush=True,
        )
    return [done[case.split, case.number] for chunk in chunks for case in chunk]


def main() -> None:
    """Draw, read, write benchmarks/results/quality.json and quality.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", type=int, default=200, help="captions a split; fewer than 200 write no results"
    )
    parser.add_argument("--model", default="tiny", help="a name in the zoo, or a folder in diffusers layout")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--kept", type=Path, default=ROOT / "runs/quality", help="where scores are kept")
    parser.add_argument("--part", default="0/1", help="which of how many processes this is")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shipped = Path(zoo.__path__[0]) / arguments.model
    folder = shipped if shipped.is_dir() else Path(arguments.model)
    settings = Settings(folder.name, arguments.seeds, arguments.steps)
    arguments.kept.mkdir(parents=True, exist_ok=True)
    number, parts = map(int, arguments.part.split("/"))
    file = arguments.kept / f"{key(settings, folder)}.jsonl"
    rows = measure(arguments.cases, settings, file, folder, (number, parts))
    rates, rebuilt = summary(rows, "drawn"), summary(rows, "rebuilt")
    text = table(rates, rebuilt)
    print(text)
    if arguments.cases < 200 or folder != shipped or parts > 1:
        return
    command = shlex.join(["python", "benchmarks/quality.py", *sys.argv[1:]])
    where = machine()
    report = {
        "command": command,
        "settings": asdict(settings),
        "machine": where,
        "weights": weights(folder),
        "drawn": rates,
        "judge and autoencoder alone": rebuilt,
    }
    results = ROOT / "benchmarks/results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "quality.json").write_text(json.dumps(report, indent=1) + "\n")
    about = (
        f"Held-out captions, {settings.seeds} seeds, {settings.steps} steps of DDIM, classifier-free guidance "
        f"{settings.scale}, read by the judge. `{command}` on {where['cpu']}, {where['cores']} cores, "
        f"torch {where['torch']}, diffusers {where['diffusers']}. Intervals: bootstrap over captions."
    )
    sums = "\n".join(f"- `{name}` {value}" for name, value in weights(folder).items())
    (results / "quality.md").write_text(f"# Quality of `{settings.model}`\n\n{about}\n\n{text}\n\n{sums}\n")


if __name__ == "__main__":
    main()
