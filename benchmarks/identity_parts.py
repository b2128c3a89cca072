"""Which parts of a look does it take to be told among 50 individuals?

Held-out individuals are rendered as they are and with parts of another individual's look, taken through the model's
autoencoder, and read by the judge as benchmarks/conditioners.py reads identity. It says what a conditioner must draw,
and how much the autoencoder and the judge lose of a perfect drawing. Intervals are Wilson's.

    python benchmarks/identity_parts.py         # minutes on one core
"""

from __future__ import annotations

import dataclasses
import json
from unittest import mock

import numpy as np
import torch
from bench_helpers import ROOT
from conditioners import alone, is_shown

import weft
from weft.zoo import judge, world
from weft.zoo.judge.evaluate import as_json, machine, rate
from weft.zoo.training.pictures import pixels
from weft.zoo.world import things

CASES = 200
ROWS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "emblem": ("emblem",),
    "outline": ("outline",),
    "trim": ("trim",),
    "second colour": ("second",),
    "emblem and its colour": ("emblem", "emblem_color"),
    "body": ("body",),
    "all but the body": ("emblem", "emblem_color", "trim", "second", "outline"),
    "all but the noun": ("emblem", "emblem_color", "trim", "second", "outline", "body"),
}


def drawn(parts: tuple[str, ...], numbers: range) -> torch.Tensor:
    """Renders in [-1, 1] of the benchmark's cases, with ``parts`` of the looks of training individuals."""

    def look(number: int) -> world.SubjectLook:
        own, other = world.subject(number), world.subject(number % 997)
        return dataclasses.replace(own, **{part: getattr(other, part) for part in parts})

    images = []
    with mock.patch.object(things, "subject", look):
        for number in numbers:
            case = alone(1)(number)
            (thing,) = case.things
            wanted = [(thing.noun, None, None, None, thing.subject)]
            images.append(world.compose(case.background, wanted, 70_000 + number).image(64))
    return pixels(np.stack(images))


@torch.no_grad()
def outcomes(pipe: weft.Pipeline, parts: tuple[str, ...]) -> list[bool]:
    """Whether each individual is the nearest of its 50."""
    images = drawn(parts, range(CASES))
    found = pipe.vae.decode(pipe.vae.encode(images).latent_dist.mean).sample
    found = ((found + 1) / 2).clamp(0, 1)
    results = []
    for number, (image, reading) in enumerate(zip(found, judge.read(found), strict=True)):
        (thing,) = alone(1)(number).things
        results.append(is_shown(image, reading, thing))
    return results


def main() -> None:
    """Measure, print, write benchmarks/results/identity_parts.json and .md."""
    pipe = weft.load("tiny")
    rates = {title: rate(outcomes(pipe, parts)) for title, parts in ROWS.items()}
    lines = ["| of another individual | told among 50 | n | 95 % interval |", "|---|---|---|---|"]
    lines += [f"| {title} | {found} |" for title, found in rates.items()]
    print("\n".join(lines))
    where, command = machine(), "python benchmarks/identity_parts.py"
    results = ROOT / "benchmarks/results"
    report = {"command": command, "machine": where, "rows": as_json(rates)}
    (results / "identity_parts.json").write_text(json.dumps(report, indent=1) + "\n")
    about = (
        f"`{command}` on {where['cpu']}, {where['cores']} cores, torch {where['torch']}. Intervals: Wilson's."
    )
    (results / "identity_parts.md").write_text(
        "\n".join(["# What identity takes", "", about, "", *lines, ""])
    )


if __name__ == "__main__":
    main()
