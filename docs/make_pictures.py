"""Draws the pictures of the pages in docs/plugins, with and without each strategy, from the shipped tiny model.

    python docs/make_pictures.py                   # all of them, minutes on one core
    python docs/make_pictures.py layout fusing     # some of them

Seeds are the first ones, not chosen ones. Weights and versions decide the pixels: draw them anew when either changes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from PIL import Image, ImageDraw

import weft
from weft.core.report.palette import color_of
from weft.core.report.sheet import Row, sheet
from weft.core.scene.pixels import open_image
from weft.zoo import world
from weft.zoo.training.conditioners.records import world_record

HERE: Final = Path(__file__).parent / "images"
SEEDS: Final = (0, 1, 2, 3, 4, 5)
CFG: Final = weft.ClassifierFree(7.5)
MILD: Final = weft.ClassifierFree(3.0)
"""For pictures of individuals: at a higher scale their colours are overdrawn."""
STEPS: Final = 50
CELL: Final = 128
"""Pixels of an image on a sheet."""
COLORS: Final = 256
"""Of the palette that the sheets are stored with; the shapes of the tiny world need no more."""

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
    """A row of images for each chain."""
    return by_seed({label: row(scene, chain) for label, chain in rows.items()})


def by_seed(rows: dict[str, list[Image.Image]]) -> Image.Image:
    """Labelled rows of an image for each seed."""
    captions = [f"seed {seed}" for seed in SEEDS]
    return sheet([Row(label, images, captions) for label, images in rows.items()], cell=CELL)


PORTRAITS: Final = ((0, "snow"), (1, "sand"), (2, "night"))


def referenced(number: int = 0, where: str = "snow") -> weft.Scene:
    """A held-out individual, shown on grass and asked for elsewhere."""
    subject = world.HELD_OUT_SUBJECTS[number]
    photo = Image.fromarray(world.portrait(subject, 0, background="grass").image(64))
    noun = world.subject(subject).noun
    prompt = world.describe(where, [(noun, None, None, None, subject)])
    return weft.Scene(prompt, subjects=[weft.Subject(noun, images=[photo])])


def attend_and_excite() -> Image.Image:
    scene = weft.Scene(
        "a white boat, a brown fish and an orange moon at night",
        subjects=[weft.Subject(noun) for noun in ("boat", "fish", "moon")],
    )
    # the settings of benchmarks/guidance_effect.py
    excite = weft.AttendAndExcite(scale=1.0, separation=3.0, positions=64)
    return compare(scene, {"without": [CFG], "with": [excite, CFG]})


def layout() -> Image.Image:
    return compare(THREE, {"without": [CFG], "with": [weft.Layout(), CFG]})


def classifier_free() -> Image.Image:
    scales = {f"scale {scale:g}": [weft.ClassifierFree(scale)] for scale in (1.0, 3.0, 7.5, 15.0)}
    return compare(TWO, {**scales, "15, rescale 0.7": [weft.ClassifierFree(15.0, rescale=0.7)]})


def composable() -> Image.Image:
    both = weft.Composable(5.0, subjects=(2.5, 2.5))
    avoid = weft.Composable(7.5, prompts={"a blue star on sand": -4.0})
    return compare(TWO, {"without": [CFG], "AND ball AND star": [both], "NOT blue star": [avoid]})


def diffusers_guider() -> Image.Image:
    options = {
        "guidance_scale": 7.5,
        "eta": 0.0,
        "adaptive_projected_guidance_momentum": -0.5,
        "adaptive_projected_guidance_rescale": 1.0,
    }
    guided = weft.DiffusersGuider("AdaptiveProjectedGuidance", options)
    return compare(TWO, {"classifier_free": [CFG], "APG": [guided]})


def fusing() -> Image.Image:
    sweep = weft.sweep(
        weft.load("tiny"),
        referenced(),
        {"guidance.0.alpha": [0, 0.25, 0.5, 0.75, 1]},
        conditioners=["pseudo_word"],
        guidance=[weft.Fusing(), MILD],
        steps=STEPS,
        seeds=SEEDS[:3],
        attention=False,
    )
    return sweep.sheet()


def delayed() -> Image.Image:
    scene, names = referenced(), ["pseudo_word"]
    rows = {
        "all steps": row(scene, [MILD], names),
        "from 0.3 on": row(scene, [MILD, weft.Delayed("pseudo_word", (0.3, 1.0))], names),
        "until 0.8": row(scene, [MILD, weft.Delayed("pseudo_word", (0.0, 0.8))], names),
    }
    return by_seed(rows)


def instruct() -> Image.Image:
    scene, names = referenced(), ["subject_adapter"]
    rows = {
        f"image {scale:g}": row(scene, [weft.Instruct(3.0, scale)], names) for scale in (0.0, 1.0, 2.0, 3.0)
    }
    return by_seed(rows)


def pag() -> Image.Image:
    rows = {
        "plain": [],
        "pag 3": [weft.PAG(3.0)],
        "cfg 3": [MILD],
        "cfg 3, pag 3": [MILD, weft.PAG(3.0)],
    }
    return compare(TWO, rows)


def sag() -> Image.Image:
    rows = {
        "plain": [],
        "sag 1": [weft.SAG(1.0)],
        "cfg 3": [MILD],
        "cfg 3, sag 1": [MILD, weft.SAG(1.0)],
    }
    return compare(TWO, rows)


def placed(number: int, count: int = 2) -> weft.Scene:
    """A held-out picture of the world as a scene: caption, boxes and silhouettes."""
    return _scene(world.sample(60_000 + number, "held_out", count=count, subjects=0.0))


def individuals(number: int, count: int = 1) -> weft.Scene:
    """Held-out individuals of different nouns in a picture of the world, with a photo of each."""
    of_nouns: dict[str, int] = {}
    for subject in world.HELD_OUT_SUBJECTS[count * number :]:
        of_nouns.setdefault(world.subject(subject).noun, subject)
    wanted = [(noun, None, None, None, subject) for noun, subject in list(of_nouns.items())[:count]]
    background = tuple(world.BACKGROUNDS)[number]
    return _scene(world.compose(background, wanted, 60_000 + number))


def _scene(picture: world.Picture) -> weft.Scene:
    record = world_record(picture, [world.describe(picture.background, picture.objects)], 64)
    return record.scenes[0]


def outlined(image: Image.Image, scene: weft.Scene, factor: int = 2) -> Image.Image:
    """A picture enlarged, with its subjects' boxes."""
    made = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(made)
    for number, subject in enumerate(scene.subjects):
        if subject.box is not None:
            left, top, right, bottom = (side * made.width for side in subject.box)
            pen.rectangle((left, top, right - 1, bottom - 1), outline=color_of(number), width=2)
    return made


def asked(scene: weft.Scene) -> Image.Image:
    """Boxes, silhouettes and photos of a scene on an empty canvas, in the pictures' size; a photo alone as it is."""
    canvas = Image.new("RGB", (64, 64), "white")
    for number, subject in enumerate(scene.subjects):
        photo = open_image(subject.images[0], "photo").resize((64, 64)) if subject.images else None
        if subject.box is None:
            return outlined(photo or canvas, scene)
        left, top, right, bottom = (round(side * 64) for side in subject.box)
        if photo is not None:
            canvas.paste(photo.resize((right - left, bottom - top)), (left, top))
        elif subject.mask is not None:
            canvas.paste(color_of(number), (0, 0), open_image(subject.mask, "mask").convert("L"))
    return outlined(canvas, scene)


def with_and_without(scenes: Sequence[weft.Scene], conditioners: Sequence[str]) -> Image.Image:
    """A row for each scene: what is asked for, one picture without the conditioners, and some with them."""
    rows = []
    for scene in scenes:
        without, present = row(scene, [MILD])[:1], row(scene, [MILD], conditioners)[:4]
        rows.append([asked(scene), *(outlined(image, scene) for image in (*without, *present))])
    columns = ["asked for", "without", *(f"with, seed {seed}" for seed in SEEDS[:4])]
    return sheet([Row("", images, columns) for images in rows], cell=CELL)


def pseudo_word() -> Image.Image:
    return with_and_without([referenced(number, where) for number, where in PORTRAITS], ["pseudo_word"])


def fusion_text() -> Image.Image:
    scenes = [_without(individuals(n), "mask") for n in range(3)]
    return with_and_without(scenes, ["fusion_text", "mask_location", "subject_adapter"])


def subject_adapter() -> Image.Image:
    return with_and_without([individuals(n) for n in range(3)], ["subject_adapter"])


def grounding() -> Image.Image:
    scenes = [placed(n, count=2 + n) for n in range(3)]
    return with_and_without([_without(scene, "mask") for scene in scenes], ["grounding"])


def mask_location() -> Image.Image:
    return with_and_without([placed(10 + n, count=1) for n in range(3)], ["mask_location"])


def together() -> Image.Image:
    names = ["pseudo_word", "grounding", "mask_location", "subject_adapter"]
    return with_and_without([_without(individuals(n, count=2), "mask") for n in range(3)], names)


def _without(scene: weft.Scene, *fields: str) -> weft.Scene:
    """The scene with some fields of its subjects as they are when left out."""
    plain = {name: getattr(weft.Subject("thing"), name) for name in fields}
    return replace(scene, subjects=[replace(subject, **plain) for subject in scene.subjects])


PICTURES: Final[dict[str, Callable[[], Image.Image]]] = {
    made.__name__: made
    for made in (
        attend_and_excite,
        classifier_free,
        composable,
        delayed,
        diffusers_guider,
        fusing,
        fusion_text,
        grounding,
        instruct,
        layout,
        mask_location,
        pag,
        pseudo_word,
        sag,
        subject_adapter,
        together,
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
        drawn = PICTURES[name]().quantize(COLORS, dither=Image.Dither.NONE)
        drawn.save(HERE / f"{name}.png", optimize=True)
        print(name, flush=True)


if __name__ == "__main__":
    main()
