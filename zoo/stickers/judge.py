"""The judge of the world of artwork: its networks are those of ``weft.zoo.judge``, its words and pictures these.

``python -m weft.zoo.stickers.judge detector|identity|segmenter|evaluate --out DIR``. Renders are reduced to 64 pixels
as the networks read them; a word for individuals ("animal") is a noun like the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ..judge.evaluate import Rate, matched, rate
from ..judge.model import Reading, decode
from ..judge.networks import SIZE, Detector, Embedder, Segmenter
from ..judge.pictures import MOST, Labelled, Scenes, Views, distort, in_parallel
from ..judge.train import DetectorTask, IdentityTask, Recipe, SegmenterTask
from ..judge.train import recipe as read_recipe
from ..training.loop import Task, Trainer, averaged
from .scenes import Picture, compose, portrait, sample
from .subjects import TRAIN_SUBJECTS, subject
from .vocabulary import BACKGROUNDS, CATEGORIES, COLORS, NOUNS

WORDS: Final = {
    "nouns": (*NOUNS, *CATEGORIES),
    "colors": tuple(COLORS),
    "patterns": ("plain",),
    "backgrounds": BACKGROUNDS,
}
RECIPES: Final = Path(__file__).parent / "judge_recipes"


def _image(picture: Picture) -> UInt8[Tensor, "3 64 64"]:
    return torch.from_numpy(picture.image(SIZE)).permute(2, 0, 1).contiguous()


def scenes(seeds: Sequence[int], split: str, subjects: float = 0.2) -> Scenes:
    """The pictures ``sample(seed, split)`` of the seeds; ``subjects`` is the share of objects that are one."""
    pictures = [sample(seed, split, subjects=subjects) for seed in seeds]
    boxes, words = torch.zeros(len(pictures), MOST, 4), torch.full((len(pictures), MOST, 3), -1)
    for i, picture in enumerate(pictures):
        for j, thing in enumerate(picture.objects):
            boxes[i, j] = torch.tensor(thing.box)
            words[i, j, 0] = WORDS["nouns"].index(thing.noun)
            if thing.color is not None:
                words[i, j, 1] = WORDS["colors"].index(thing.color)
    background = torch.tensor([BACKGROUNDS.index(picture.background) for picture in pictures])
    return Scenes(torch.stack([_image(picture) for picture in pictures]), boxes, words, background)


def labelled(seeds: Sequence[int], split: str, subjects: float = 0.2) -> Labelled:
    """The pictures ``sample(seed, split)``, and of each pixel 0 for the background, 1 + a noun's place."""
    pictures = [sample(seed, split, subjects=subjects) for seed in seeds]
    labels = torch.zeros(len(pictures), SIZE, SIZE, dtype=torch.uint8)
    for shown, picture in zip(labels, pictures, strict=True):
        for thing, mask in zip(picture.objects, picture.masks(SIZE), strict=True):
            shown[torch.from_numpy(mask)] = 1 + WORDS["nouns"].index(thing.noun)
    return Labelled(torch.stack([_image(picture) for picture in pictures]), labels)


def subject_scene(identifier: int, seed: int) -> Picture:
    """The subject, first of the objects, among one or two ordinary ones on a random background."""
    rng = np.random.default_rng([5, identifier, seed])
    nouns = [str(n) for n in rng.permutation([n for n in NOUNS if n != subject(identifier).noun])]
    others = [(noun, None, None, None) for noun in nouns[: 1 + int(rng.integers(2))]]
    wanted = (subject(identifier).noun, None, None, identifier)
    return compose(BACKGROUNDS[rng.integers(len(BACKGROUNDS))], [wanted, *others], int(rng.integers(2**31)))


def views(identifiers: Sequence[int], seeds: Sequence[int], portraits: bool) -> Views:
    """Every subject once per seed, in portraits or in scenes."""
    pairs = [(number, seed) for number in identifiers for seed in seeds]
    pictures = [(portrait if portraits else subject_scene)(*pair) for pair in pairs]
    boxes = torch.tensor([picture.objects[0].box for picture in pictures])
    return Views(torch.stack([_image(p) for p in pictures]), boxes, torch.tensor([n for n, _ in pairs]))


def networks() -> dict[str, nn.Module]:
    """The untrained networks."""
    counts = (len(WORDS["nouns"]), len(WORDS["colors"]), len(WORDS["patterns"]), len(WORDS["backgrounds"]))
    return {"detector": Detector(counts), "identity": Embedder(), "segmenter": Segmenter(1 + counts[0])}


def task(name: str, recipe: Recipe) -> Task:
    """What trains a network, on freshly rendered pictures of the train split."""
    workers, size = torch.get_num_threads(), recipe.loop.batch_size
    if name == "identity":
        numbers, half = TRAIN_SUBJECTS[: recipe.pictures], recipe.views // 2
        makers = (
            partial(views, seeds=range(half), portraits=True),
            partial(views, seeds=range(half, recipe.views), portraits=False),
        )
        shown = [part for make in makers for part in in_parallel(make, numbers, workers)]
        columns = (torch.cat([getattr(p, f) for p in shown]) for f in ("images", "boxes", "subject"))
        return IdentityTask(Views(*columns), size, len(TRAIN_SUBJECTS))
    network = networks()[name]
    if isinstance(network, Segmenter):
        parts = in_parallel(
            partial(labelled, split="train", subjects=recipe.subjects), range(recipe.pictures), workers
        )
        columns = (torch.cat([getattr(p, f) for p in parts]) for f in ("images", "labels"))
        return SegmenterTask(Labelled(*columns), size, network)
    assert isinstance(network, Detector)
    found = in_parallel(
        partial(scenes, split="train", subjects=recipe.subjects), range(recipe.pictures), workers
    )
    columns = (torch.cat([getattr(p, f) for p in found]) for f in ("images", "boxes", "words", "background"))
    return DetectorTask(Scenes(*columns), size, network)


def rates(pictures: Sequence[Picture], readings: Sequence[Reading]) -> dict[str, Rate]:
    """Rates over objects that are no individuals and over pictures; an object that is missed counts as wrong."""
    nouns, colors, backgrounds = [], [], []
    for picture, reading in zip(pictures, readings, strict=True):
        for thing, seen in zip(picture.objects, matched(picture.objects, reading.objects), strict=True):
            if thing.subject is None:
                nouns.append(seen is not None and seen.noun == thing.noun)
                if thing.color is not None:
                    colors.append(seen is not None and seen.color == thing.color)
        backgrounds.append(reading.background == picture.background)
    return {"noun": rate(nouns), "color": rate(colors), "background": rate(backgrounds)}


@torch.no_grad()
def evaluate(out: Path, count: int = 500, rough: bool = True) -> dict[str, Rate]:
    """How often the detector of ``out`` is right on held-out renders, distorted as in training if ``rough``."""
    network = networks()["detector"]
    network.load_state_dict(averaged(out / "detector"), strict=False)
    network.eval()
    pictures = [sample(seed, "held_out") for seed in range(count)]
    images: Float[Tensor, "b 3 64 64"] = torch.stack([_image(p) for p in pictures]).float() / 255
    if rough:
        images = distort(images, torch.Generator().manual_seed(0))
    readings = [r for part in torch.split(images, 64) for r in decode(network(part), WORDS)]
    return rates(pictures, readings)


def main() -> None:
    """Train one of the networks, or measure the detector."""
    parser = argparse.ArgumentParser(prog="python -m weft.zoo.stickers.judge", description=__doc__)
    parser.add_argument("task", choices=["detector", "identity", "segmenter", "evaluate"])
    parser.add_argument("--out", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--threads", type=int, default=2, help="threads, and processes that render")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.task == "evaluate":
        for name, share in evaluate(options.out).items():
            print(f"{name}: {share}")
        return
    recipe = read_recipe(options.task, RECIPES)
    torch.manual_seed(recipe.loop.seed)
    trainer = Trainer(task(options.task, recipe), recipe.loop, options.out / options.task)
    trainer.resume()
    trainer.run()


if __name__ == "__main__":
    main()
