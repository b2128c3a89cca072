"""Draws the pictures of the pages in docs/plugins, with and without each strategy, from the shipped tiny model.

    python docs/make_pictures.py                   # all of them, minutes on one core
    python docs/make_pictures.py layout fusing     # some of them

Seeds are the first ones, not chosen ones. Weights and versions decide the pixels: draw them anew when either changes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
from PIL import Image

import weft
from weft.core.chart import contact_sheet
from weft.zoo import world

HERE: Final = Path(__file__).parent / "images"
SEEDS: Final = (0, 1, 2, 3, 4, 5)
CFG: Final = weft.ClassifierFree(7.5)
STEPS: Final = 50

THREE: Final = weft.Scene(
    "a red ball, a blue star and a green fish on sand",
    subjects=[
        weft.Subject("ball", box=(0.05, 0.55, 0.4, 0.9)),
        weft.Subject("star", box=(0.55, 0.05, 0.95, 0.45)),
        weft.Subject("fish", box=(0.5, 0.55, 0.95, 0.9)),
    ],
)
TWO: Final = weft.Scene(
    "a red ball and a blue star on sand", subjects=[weft.Subject("red ball"), weft.Subject("blue star")]
)


def row(
    scene: weft.Scene, guidance: Sequence[weft.Guidance], conditioners: Sequence[str] = ()
) -> list[Image.Image]:
    """A picture for each seed."""
    return (
        weft.load("tiny")
        .generate(
            scene, conditioners, guidance, steps=STEPS, seeds=SEEDS, batch_size=len(SEEDS), attention=False
        )
        .images
    )


def compare(scene: weft.Scene, rows: dict[str, Sequence[weft.Guidance]]) -> Image.Image:
    """A row of pictures for each chain."""
    pictures = [row(scene, chain) for chain in rows.values()]
    return contact_sheet(pictures, [f"seed {seed}" for seed in SEEDS], list(rows))


def referenced() -> weft.Scene:
    """A held-out individual, shown on grass and asked for in snow."""
    subject = world.HELD_OUT_SUBJECTS[0]
    photo = Image.fromarray(world.portrait(subject, 0, background="grass").image(64))
    noun = world.subject(subject).noun
    prompt = world.describe("snow", [(noun, None, None, None, subject)])
    return weft.Scene(prompt, subjects=[weft.Subject(noun, images=[photo])])


def attend_and_excite() -> Image.Image:
    excite = weft.AttendAndExcite(scale=5.0, updates=5)
    return compare(THREE, {"without": [CFG], "with": [excite, CFG]})


def layout() -> Image.Image:
    return compare(THREE, {"without": [CFG], "with": [weft.Layout(), CFG]})


def classifier_free() -> Image.Image:
    scales = {f"scale {scale:g}": [weft.ClassifierFree(scale)] for scale in (1.0, 3.0, 7.5, 15.0)}
    return compare(TWO, {**scales, "15, rescale 0.7": [weft.ClassifierFree(15.0, rescale=0.7)]})


def composable() -> Image.Image:
    parts = weft.Composable(0.0, subjects=(7.5, 7.5))
    avoid = weft.Composable(7.5, prompts={"a blue star": -3.0})
    return compare(TWO, {"without": [CFG], "ball AND star": [parts], "NOT star": [avoid]})


def diffusers_guider() -> Image.Image:
    guided = weft.DiffusersGuider("AdaptiveProjectedGuidance", {"guidance_scale": 7.5})
    return compare(TWO, {"classifier_free": [CFG], "APG": [guided]})


def fusing() -> Image.Image:
    sweep = weft.alpha_sweep(
        weft.load("tiny"),
        referenced(),
        alphas=(0.0, 0.25, 0.5, 0.75, 1.0),
        steps=STEPS,
        seeds=SEEDS[:3],
        attention=False,
    )
    return sweep.sheet()


def delayed() -> Image.Image:
    scene, names = referenced(), ["pseudo_word"]
    rows = {
        "all steps": row(scene, [CFG], names),
        "from 0.3 on": row(scene, [CFG, weft.Delayed("pseudo_word", (0.3, 1.0))], names),
        "until 0.8": row(scene, [CFG, weft.Delayed("pseudo_word", (0.0, 0.8))], names),
    }
    return contact_sheet(list(rows.values()), [f"seed {seed}" for seed in SEEDS], list(rows))


def instruct() -> Image.Image:
    scene, names = referenced(), ["pseudo_word"]
    rows = {
        f"image {scale:g}": row(scene, [weft.Instruct(7.5, scale)], names) for scale in (1.0, 1.5, 3.0, 7.5)
    }
    return contact_sheet(list(rows.values()), [f"seed {seed}" for seed in SEEDS], list(rows))


PICTURES: Final[dict[str, Callable[[], Image.Image]]] = {
    made.__name__: made
    for made in (
        attend_and_excite,
        classifier_free,
        composable,
        delayed,
        diffusers_guider,
        fusing,
        instruct,
        layout,
    )
}


def main() -> None:
    """Draw what is asked for to docs/images/<strategy>.png."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(PICTURES)}; all by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names or PICTURES:
        PICTURES[name]().save(HERE / f"{name}.png", optimize=True)
        print(name, flush=True)


if __name__ == "__main__":
    main()
