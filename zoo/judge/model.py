"""Reading pictures: the objects and the background of each, what is in a box, and what every pixel shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, final

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ..world import BACKGROUNDS, COLORS, NOUNS, PATTERNS
from .networks import CELLS, Detector, Embedder, Maps, Segmenter, cut, fit

HERE: Final = Path(__file__).parent
WORDS: Final = {"nouns": NOUNS, "colors": tuple(COLORS), "patterns": PATTERNS, "backgrounds": BACKGROUNDS}
LEAST_SCORE: Final = 0.3
"""A point below this score is no object."""
MOST_OVERLAP: Final = 0.5
"""Of two boxes whose intersection over union is larger, only the one with the higher score is an object."""
MOST_OBJECTS: Final = 8

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Seen:
    """An object that the judge sees.

    Args:
        noun: one of ``weft.zoo.world.NOUNS``.
        color: the closest of ``COLORS``; of a subject, whose palette is its own, no more than a guess.
        pattern: one of ``PATTERNS``; likewise.
        box: (left, top, right, bottom) in fractions of the picture.
        score: confidence in [0, 1].
    """

    noun: str
    color: str
    pattern: str
    box: Box
    score: float


@dataclass(frozen=True)
class Reading:
    """What the judge sees in one picture; objects from the highest score to the lowest."""

    background: str
    objects: tuple[Seen, ...]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def decode(maps: Maps, words: Mapping[str, Sequence[str]] = WORDS) -> list[Reading]:
    """The objects that are local maxima of the noun maps, duplicates removed across nouns.

    ``words`` are those that the maps stand for, by the keys of ``WORDS``.
    """
    heat = maps.nouns.float().sigmoid()  # b n h w
    best, noun = heat.max(dim=1)  # b h w
    peaks = best * (best == F.max_pool2d(best, 3, 1, 1))
    scores, places = peaks.flatten(1).topk(MOST_OBJECTS)
    ticks = torch.arange(CELLS, device=heat.device) + 0.5
    offset, size = maps.boxes.float().chunk(2, dim=1)
    centre = offset + torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"))  # b 2 h w, in cells
    half = size.exp() / 2
    boxes = (torch.cat([centre - half, centre + half], dim=1) / CELLS).clamp(0, 1).flatten(2)
    columns = [
        scores, noun.flatten(1).gather(1, places), maps.colors.argmax(1).flatten(1).gather(1, places),
        maps.patterns.argmax(1).flatten(1).gather(1, places),
        *(boxes[:, side].gather(1, places) for side in range(4)),
    ]  # fmt: skip
    backgrounds = maps.background.argmax(1).tolist()
    readings = []
    table = torch.stack([column.double() for column in columns], dim=-1).tolist()
    for rows, background in zip(table, backgrounds, strict=True):
        kept: list[Seen] = []
        for score, n, c, p, *sides in rows:
            box = (sides[0], sides[1], sides[2], sides[3])
            if score >= LEAST_SCORE and all(overlap(box, other.box) <= MOST_OVERLAP for other in kept):
                kept.append(Seen(
                    words["nouns"][int(n)], words["colors"][int(c)], words["patterns"][int(p)], box, score
                ))  # fmt: skip
        readings.append(Reading(words["backgrounds"][background], tuple(kept)))
    return readings


def detector() -> Detector:
    """An untrained detector for the words of the world."""
    return Detector((len(NOUNS), len(COLORS), len(PATTERNS), len(BACKGROUNDS)))


def segmenter() -> Segmenter:
    """An untrained segmenter for the nouns of the world."""
    return Segmenter(1 + len(NOUNS))


@final
class Judge:
    """The networks with their weights, on one device.

    Args:
        detector: reads objects and backgrounds.
        embedder: tells subjects apart.
        segmenter: says what every pixel shows.
    """

    def __init__(self, detector: Detector, embedder: Embedder, segmenter: Segmenter) -> None:
        self.detector = detector.eval().requires_grad_(False)
        self.embedder = embedder.eval().requires_grad_(False)
        self.segmenter = segmenter.eval().requires_grad_(False)

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"], batch: int = 64) -> list[Reading]:
        """What is in each picture.

        Args:
            images: in [0, 1], 64 x 64 pixels, or a whole multiple of that, which is reduced by area.
            batch: pictures at a time.

        Raises:
            ValueError: the pictures have another shape.
        """
        return [r for part in torch.split(fit(images), batch) for r in decode(self.detector(part))]

    @torch.no_grad()
    def identity(
        self, images: Float[Tensor, "n 3 h w"], boxes: Float[Tensor, "n 4"], batch: int = 64
    ) -> Float[Tensor, "n d"]:
        """Unit vectors whose cosine says how alike two individuals look, whatever their pose and background.

        Args:
            images: in [0, 1], one per box, of the sizes that ``read`` takes.
            boxes: (left, top, right, bottom) in fractions of the picture.
            batch: crops at a time.

        Raises:
            ValueError: the shapes are others.
        """
        if boxes.shape != (len(images), 4):
            raise ValueError(
                f"one box [4] per picture is needed: {len(images)} pictures, boxes {tuple(boxes.shape)}"
            )
        pairs = zip(torch.split(fit(images), batch), torch.split(boxes.float(), batch), strict=True)
        return torch.cat([self.embedder(cut(part, some)) for part, some in pairs])

    @torch.no_grad()
    def segment(self, images: Float[Tensor, "b 3 h w"], batch: int = 64) -> Int[Tensor, "b 64 64"]:
        """What every pixel shows: 0 the background, 1 + a place in ``weft.zoo.world.NOUNS`` an object.

        Args:
            images: in [0, 1], of the sizes that ``read`` takes; larger ones get the labels of 64 x 64 pixels.
            batch: pictures at a time.

        Raises:
            ValueError: the pictures have another shape.
        """
        return torch.cat([self.segmenter(part).argmax(1) for part in torch.split(fit(images), batch)])


def export(network: nn.Module, path: Path) -> None:
    """Write weights as float16 with the words of the world, in one replace."""
    half = {k: v.half().contiguous() for k, v in network.state_dict().items() if v.is_floating_point()}
    new = path.with_suffix(".tmp")
    new.write_bytes(save(half, {"words": json.dumps(WORDS)}))
    new.replace(path)


def _restore(network: nn.Module, path: Path) -> None:
    with safe_open(path, "pt") as file:
        words = json.loads((file.metadata() or {}).get("words", "{}"))
        if {k: tuple(v) for k, v in words.items()} != WORDS:
            raise ValueError(f"{path.name} was trained on other words than weft.zoo.world has: {words}")
        weights = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 - no mapping
    counters = {k: v for k, v in network.state_dict().items() if not v.is_floating_point()}
    network.load_state_dict(weights | counters)


@lru_cache(maxsize=1)
def load(folder: Path = HERE) -> Judge:
    """The judge whose weights lie in ``folder``, on the CPU.

    Raises:
        ValueError: the weights belong to another world.
    """
    parts = detector(), Embedder(), segmenter()
    for network, name in zip(parts, ("detector", "identity", "segmenter"), strict=True):
        _restore(network, folder / f"{name}.safetensors")
    return Judge(*parts)


def read(images: Float[Tensor, "b 3 h w"]) -> list[Reading]:
    """What the shipped judge sees in pictures in [0, 1]; see ``Judge.read``."""
    return load().read(images)


def identity(images: Float[Tensor, "n 3 h w"], boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n d"]:
    """The shipped judge's unit vectors of what is in one box of each picture; see ``Judge.identity``."""
    return load().identity(images, boxes)


def segment(images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b 64 64"]:
    """What the shipped judge sees in every pixel, 0 or 1 + a noun's place; see ``Judge.segment``."""
    return load().segment(images)
