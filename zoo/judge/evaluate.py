"""How often the judge is right on held-out renders: ``python -m weft.zoo.judge evaluate``."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ...core.report.statistics import share_interval
from ..world import HELD_OUT_SUBJECTS, Picture, sample
from .masks import Mean, mask_means
from .model import HERE, Box, Judge, Reading, Seen, load, overlap
from .networks import SIZE
from .pictures import distort, views

PICTURES: Final = 2000
GROUP: Final = 50
"""Subjects among which the nearest is sought."""
COMMAND: Final = "python -m weft.zoo.judge evaluate --results benchmarks/results"


@dataclass(frozen=True)
class Rate:
    """``right`` of ``n``, with Wilson's 95 % interval."""

    right: int
    n: int

    @property
    def share(self) -> float:
        return self.right / max(self.n, 1)

    @property
    def interval(self) -> tuple[float, float]:
        return share_interval(self.right, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.2f} % | {self.n} | {100 * low:.2f} to {100 * high:.2f}"


def rate(outcomes: Sequence[bool]) -> Rate:
    """The rate of a list of outcomes."""
    return Rate(sum(outcomes), len(outcomes))


def tensor(pictures: Sequence[Picture]) -> Float[Tensor, "b 3 64 64"]:
    """Renders in [0, 1]."""
    return torch.stack([torch.from_numpy(p.image(SIZE)).permute(2, 0, 1) for p in pictures]).float() / 255


class Placed(Protocol):
    """Something with a box, in fractions of the picture."""

    @property
    def box(self) -> Box: ...


def matched(things: Sequence[Placed], seen: Sequence[Seen], least: float = 0.5) -> list[Seen | None]:
    """For every thing the seen object whose box overlaps its own most, at least by ``least``; none twice."""
    pairs = sorted(
        ((overlap(t.box, s.box), i, j) for i, t in enumerate(things) for j, s in enumerate(seen)),
        reverse=True,
    )
    found: dict[int, int] = {}
    for value, i, j in pairs:
        if value >= least and i not in found and j not in found.values():
            found[i] = j
    return [seen[found[i]] if i in found else None for i in range(len(things))]


def detection_rates(pictures: Sequence[Picture], readings: Sequence[Reading]) -> dict[str, Rate]:
    """Rates over objects with a colour, over subjects and over pictures; a missed object is wrong."""
    objects, patterns, subjects, whole, extra = [], [], [], [], []
    for picture, reading in zip(pictures, readings, strict=True):
        found = matched(picture.objects, reading.objects)
        right = True
        for thing, seen in zip(picture.objects, found, strict=True):
            noun = seen is not None and seen.noun == thing.noun
            if thing.subject is not None:
                subjects.append(noun)
            else:
                noun = noun and seen is not None and seen.color == thing.color
                objects.append(noun)
                patterns.append(seen is not None and seen.pattern == thing.pattern)
            right &= noun
        extra.append(len(reading.objects) > sum(seen is not None for seen in found))
        whole.append(right and not extra[-1] and reading.background == picture.background)
    background = [r.background == p.background for p, r in zip(pictures, readings, strict=True)]
    return {
        "object: noun and colour right at IoU >= 0.5": rate(objects),
        "object: pattern right at IoU >= 0.5": rate(patterns),
        "subject: noun right at IoU >= 0.5": rate(subjects),
        "picture: background right": rate(background),
        "picture: everything right and nothing else seen": rate(whole),
        "picture: something seen that is not there": rate(extra),
    }


def figures(
    judge: Judge, pictures: Sequence[Picture], images: Float[Tensor, "b 3 64 64"], rough: bool
) -> dict[str, Rate | Mean]:
    """What every network gets right, on pictures and their renders, all distorted as in training if ``rough``."""
    if rough:
        images = distort(images, torch.Generator().manual_seed(0))
    return {
        **detection_rates(pictures, judge.read(images)),
        "subject: nearest of 50 is itself": recognition(judge, rough=rough),
        **mask_means(pictures, judge.segment(images)),
    }


def recognition(
    judge: Judge, subjects: int = len(HELD_OUT_SUBJECTS), each: int = 5, rough: bool = False
) -> Rate:
    """How often a held-out subject, in ``each`` portraits and ``each`` scenes, is nearest to itself among 50.

    Each of the 50 is the mean embedding of 4 other portraits; boxes are the true ones. ``subjects`` is cut into
    groups of 50. Queries are distorted as in training if ``rough``.
    """
    rng = torch.Generator().manual_seed(0)
    right: list[bool] = []
    for first in range(0, subjects, GROUP):
        numbers = HELD_OUT_SUBJECTS[first : first + GROUP]
        gallery = views(numbers, range(4), portraits=True)
        known = judge.identity(gallery.images.float() / 255, gallery.boxes)
        centres = F.normalize(rearrange(known, "(n k) d -> n k d", k=4).mean(1), dim=1)  # n d
        for portraits in (True, False):
            queries = views(numbers, range(100, 100 + each), portraits=portraits)
            images = queries.images.float() / 255
            found = judge.identity(distort(images, rng) if rough else images, queries.boxes)
            nearest = (found @ centres.T).argmax(1) + numbers.start
            right += (nearest == queries.subject).tolist()
    return rate(right)


def machine() -> dict[str, str | int]:
    """The processor and the versions of a measurement."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    packages = {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy", "Pillow")}
    return {"cpu": model, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(),
            "python": platform.python_version(), **packages}  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file under ``folder``, by relative name."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def as_json(value: Mapping[str, Rate | Mean]) -> dict[str, Any]:
    """Rates and means as plain numbers."""
    return {k: ({"right": r.right} if isinstance(r, Rate) else {})
            | {"n": r.n, "share": round(r.share, 5), "interval": [round(x, 5) for x in r.interval]}
            for k, r in value.items()}  # fmt: skip


def evaluate(weights: Path | None = None, results: Path | None = None) -> str:
    """Measure the weights in ``weights`` (default: the shipped ones).

    Returns:
        a Markdown table; ``results``/judge.json and judge.md get it too, with machine, versions and digests.
    """
    folder = weights or HERE
    judge = load(folder)
    pictures = [sample(seed, "held_out") for seed in range(PICTURES)]
    images = tensor(pictures)
    clean = figures(judge, pictures, images, rough=False)
    rough = figures(judge, pictures, images, rough=True)
    tables = []
    for title, shares in (("held-out renders", clean), ("the same, distorted as in training", rough)):
        rows = [f"| {name} | {value} |" for name, value in shares.items()]
        tables += [f"| {title} | share | n | 95 % interval |", "|---|---|---|---|", *rows, ""]
    text = "\n".join(tables)
    if results is not None:
        where = machine()
        sums = digests(folder)
        report = {
            "command": COMMAND,
            "machine": where,
            "weights": sums,
            "renders": as_json(clean),
            "distorted": as_json(rough),
        }
        (results / "judge.json").write_text(json.dumps(report, indent=1) + "\n")
        footer = f"`{COMMAND}` on {where['cpu']}, threads: {where['threads']}, torch {where['torch']}.\n\n"
        footer += "\n".join(f"- `{name}` {value}" for name, value in sums.items())
        (results / "judge.md").write_text(f"# The judge\n\n{text}\n{footer}\n")
    return text
