"""Pictures: drawn at random, composed on purpose, and portraits of one subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .backgrounds import paint_background
from .captions import Wanted, caption
from .subjects import HELD_OUT_SUBJECTS, TRAIN_SUBJECTS, subject
from .things import GRID, Box, Thing, extent, paint
from .vocabulary import BACKGROUNDS, CATEGORIES, COLORS, HELD_OUT_TRIPLES, NOUNS, TINTED

_SPLITS: Final = ("train", "held_out")
_COUNTS: Final = (0.4, 0.75, 0.9)
_SIZES: Final = {1: (0.42, 0.72), 2: (0.34, 0.5), 3: (0.3, 0.42), 4: (0.28, 0.38)}
_COLOR_SHARE: Final = 0.8
_COLOR_NAMES: Final = tuple(COLORS)
_RESERVED: Final = frozenset(HELD_OUT_TRIPLES)


@dataclass(frozen=True)
class Picture:
    """A background and objects, back to front. `size` is the side of its image where none is asked for."""

    background: str
    objects: tuple[Thing, ...]
    seed: int
    size: int = 128

    def image(self, size: int | None = None) -> NDArray[np.uint8]:
        """The picture, RGB, [size, size, 3]."""
        side = size or self.size
        canvas = paint_background(self.background, self.seed, side)
        for thing in self.objects:
            x, y, pixels = paint(thing, side)
            window = canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]]
            window *= 1 - pixels[..., 3:] * np.float32(1 / 255)
            window += pixels[..., :3]
        image: NDArray[np.uint8] = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
        return image

    def masks(self, size: int | None = None) -> NDArray[np.bool_]:
        """The visible pixels of every object, [n, size, size]; a pixel goes to the one that shows most.

        An object that nothing hides has a mask whose tight box is its box, exactly at 64, 128, ... pixels.
        """
        side = size or self.size
        cover = np.zeros((len(self.objects), side, side), dtype=np.float32)
        for index, thing in enumerate(self.objects):
            x, y, pixels = paint(thing, side)
            window = (slice(y, y + pixels.shape[0]), slice(x, x + pixels.shape[1]))
            alpha = pixels[..., 3] * np.float32(1 / 255)
            cover[(slice(0, index), *window)] *= 1 - alpha
            cover[(index, *window)] = alpha
        owner = cover.argmax(axis=0) if len(self.objects) else np.zeros((side, side), dtype=np.int64)
        visible: NDArray[np.bool_] = (cover > 0) & (owner == np.arange(len(self.objects))[:, None, None])
        return visible

    def caption(self, seed: int = 0) -> str:
        """A caption, lower case; another seed gives another wording of the same picture."""
        return caption(self.background, self.objects, np.random.default_rng([11, self.seed, seed]))


def _box_at(shape: tuple[float, float], side: float, at: tuple[float, float]) -> Box:
    """A box of that width and height, the longer of `side`, at a place of 0 to 1 each way."""
    scale = side / max(shape)
    columns, rows = (max(round(length * scale * GRID), 6) for length in shape)
    margin = 1
    column = margin + round(at[0] * (GRID - 2 * margin - columns))
    row = margin + round(at[1] * (GRID - 2 * margin - rows))
    return column / GRID, row / GRID, (column + columns) / GRID, (row + rows) / GRID


def _overlap(one: Box, other: Box) -> float:
    """The shared area as a share of the smaller box."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / min(areas)


def _placed(
    wanted: Sequence[Wanted], rng: np.random.Generator, sizes: tuple[float, float]
) -> tuple[Thing, ...]:
    """The objects in random poses, those without a box where they overlap the others by at most 5 %."""
    poses = [
        (float(rng.uniform(-12, 12)), bool(rng.random() < 0.5), float(rng.uniform(-1, 1))) for _ in wanted
    ]
    shapes: list[tuple[float, float]] = []
    for (noun, _, _, individual), (angle, flip, _) in zip(wanted, poses, strict=True):
        width, height = extent(noun, individual, angle, flip)
        shapes.append((width * float(rng.uniform(0.94, 1.06)), height))
    low, high = sizes
    while True:
        boxes: dict[int, Box] = {i: box for i, (_, _, box, _) in enumerate(wanted) if box is not None}
        for i, (_, _, box, _) in enumerate(wanted):
            if box is not None:
                continue
            side = float(rng.uniform(low, high))
            for x, y in rng.random((30, 2)).tolist():
                place = _box_at(shapes[i], side, (x, y))
                if all(_overlap(place, other) <= 0.05 for other in boxes.values()):
                    boxes[i] = place
                    break
            else:
                break
        if len(boxes) == len(wanted):
            break
        low, high = max(low * 0.97, 0.1), max(high * 0.97, 0.1)
        if high <= 0.1:
            raise ValueError(f"no free place is left for {len(wanted)} objects beside the boxes given")
    return tuple(
        Thing(noun, color, boxes[i], individual, *poses[i])
        for i, (noun, color, _, individual) in enumerate(wanted)
    )


def sample(seed: int, split: str = "train", count: int | None = None, subjects: float = 0.2) -> Picture:
    """A random picture, a function of its arguments alone.

    `seed` is 0 or more, `count` 1 to 4 objects (None: 1 to 4 with probabilities .4, .35, .15, .1), `subjects`
    the probability, 0 to 1, that an object is a subject of the split. No picture of the split "train" has a
    noun, a colour and a background of `HELD_OUT_TRIPLES` together; the first object of a "held_out" picture
    always does. Raises `ValueError` for another split or count.
    """
    if split not in _SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(_SPLITS)}")
    if count is not None and count not in _SIZES:
        raise ValueError(f"count {count} is not one of 1, 2, 3, 4")
    rng = np.random.default_rng([_SPLITS.index(split), seed])
    drawn = float(rng.random())
    number = count if count is not None else 1 + sum(drawn >= share for share in _COUNTS)
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    individuals = TRAIN_SUBJECTS if split == "train" else HELD_OUT_SUBJECTS
    wanted: list[Wanted] = []
    if split == "held_out":
        noun, color, background = HELD_OUT_TRIPLES[rng.integers(len(HELD_OUT_TRIPLES))]
        wanted.append((noun, color, None, None))
    while len(wanted) < number:
        if rng.random() < subjects:
            individual = individuals[int(rng.integers(len(individuals)))]
            noun, color = subject(individual).noun, None
        else:
            individual, noun = None, NOUNS[rng.integers(len(NOUNS))]
            color = _color(noun, rng)
            if split == "train" and (noun, color, background) in _RESERVED:
                continue
        if all(noun != other[0] or (None not in (color, other[1]) and color != other[1]) for other in wanted):
            wanted.append((noun, color, None, individual))
    return Picture(background, _placed(wanted, rng, _SIZES[number]), seed)


def _color(noun: str, rng: np.random.Generator) -> str | None:
    """A colour for a noun that comes in colours, most of the time."""
    tints = noun in TINTED and rng.random() < _COLOR_SHARE
    return _COLOR_NAMES[rng.integers(len(_COLOR_NAMES))] if tints else None


def _checked(thing: Wanted) -> Wanted:
    noun, color, box, individual = thing
    if noun not in NOUNS and not (individual is not None and noun in CATEGORIES):
        raise ValueError(f"noun {noun!r} is not one of {', '.join(NOUNS)}")
    if box is not None and not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise ValueError(f"box {box} of {noun!r} is not left < right, top < bottom in fractions 0 to 1")
    if individual is not None:
        if subject(individual).noun != noun:
            raise ValueError(f"subject {individual} is a {subject(individual).noun}, not a {noun}")
        return noun, None, box, individual
    if color is not None and color not in COLORS:
        raise ValueError(f"color {color!r} of {noun!r} is not one of {', '.join(COLORS)}")
    if color is not None and noun not in TINTED:
        raise ValueError(
            f"a {noun} has no color, so {color!r} must be None; colors go with {', '.join(sorted(TINTED))}"
        )
    return noun, color, box, None


def compose(background: str, things: Sequence[Wanted], seed: int) -> Picture:
    """A scene on purpose: each thing is (noun, color, box, subject).

    A box, in fractions 0 to 1, is filled tightly (the object is stretched to it); a box of None is chosen
    from `seed`. A subject's noun must be its own. Raises `ValueError` for a word outside the vocabulary, a
    color of a noun outside `TINTED`, a wrong box or noun, or where no place is left.
    """
    if background not in BACKGROUNDS:
        raise ValueError(f"background {background!r} is not one of {', '.join(BACKGROUNDS)}")
    rng = np.random.default_rng([2, seed])
    return Picture(
        background,
        _placed([_checked(thing) for thing in things], rng, _SIZES[min(len(things), 4) or 1]),
        seed,
    )


def portrait(subject_id: int, seed: int, size: int = 128, background: str | None = None) -> Picture:
    """A reference photo: the subject alone, 0.6 to 0.85 of the image, in a random pose.

    `size` is the side of its image, 128 by default; the background is random unless it is given.
    """
    rng = np.random.default_rng([3, subject_id, seed])
    place = background or BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    wanted: Wanted = (subject(subject_id).noun, None, None, subject_id)
    return Picture(place, _placed([wanted], rng, (0.6, 0.85)), seed, size)
