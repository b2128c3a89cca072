"""The twelve silhouettes as flat parts in object coordinates: x to the right, y down, about -1 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""A closed polygon, [n, 2]."""


class Ink(IntEnum):
    """What a pixel of a silhouette is painted with; 0 is transparent."""

    NONE = 0
    OUTLINE = 1
    BODY = 2
    SECOND = 3
    SHADE = 4
    LIGHT = 5
    CREAM = 6
    DARK = 7
    WHITE = 8
    TRUNK = 9
    GLASS = 10
    EMBLEM = 11


@dataclass(frozen=True)
class Part:
    """Polygons painted with one ink over the parts before it.

    `cut` polygons are taken away, `outline` is the width of the dark line around the part in object units,
    and a part with `slot` is left out where a subject wears its emblem.
    """

    ink: Ink
    polygons: tuple[Points, ...]
    outline: float = 0.085
    cut: tuple[Points, ...] = ()
    slot: bool = False


@dataclass(frozen=True)
class Shape:
    """A noun's parts, back to front, and the disc (x, y, radius) that holds a subject's emblem."""

    parts: tuple[Part, ...]
    emblem: tuple[float, float, float]


def polygon(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def ellipse(
    x: float, y: float, rx: float, ry: float, turn: float = 0.0, arc: tuple[float, float] = (0, 360)
) -> Points:
    """An ellipse, or its part between two angles (degrees, clockwise from +x), turned by `turn` degrees."""
    angles = np.deg2rad(np.linspace(arc[0], arc[1], 73))
    px, py = rx * np.cos(angles), ry * np.sin(angles)
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return np.stack([x + c * px - s * py, y + s * px + c * py], axis=1)


def rounded(points: Sequence[tuple[float, float]], rounds: int = 3, keep: float = 0.25) -> Points:
    """Chaikin's corner cutting: `rounds` times, every corner becomes two points at `keep` of its edges."""
    p = np.array(points, dtype=np.float64)
    for _ in range(rounds):
        after = np.roll(p, -1, axis=0)
        p = np.stack([p * (1 - keep) + after * keep, p * keep + after * (1 - keep)], axis=1).reshape(-1, 2)
    return p


def box(left: float, top: float, right: float, bottom: float, corner: float = 0.1) -> Points:
    """A rectangle with corners of radius `corner`."""
    r = corner
    quarter = np.deg2rad(np.linspace(0, 90, 10))
    corners = [
        (right - r, bottom - r, 0),
        (left + r, bottom - r, 90),
        (left + r, top + r, 180),
        (right - r, top + r, 270),
    ]
    arcs = [
        np.stack([x + r * np.cos(quarter + np.deg2rad(a)), y + r * np.sin(quarter + np.deg2rad(a))], axis=1)
        for x, y, a in corners
    ]
    return np.concatenate(arcs)


def _toy() -> Shape:
    ears = (ellipse(-0.5, -0.76, 0.25, 0.24), ellipse(0.5, -0.76, 0.25, 0.24))
    inner = (ellipse(-0.5, -0.77, 0.11, 0.11), ellipse(0.5, -0.77, 0.11, 0.11))
    arms = (ellipse(-0.68, 0.2, 0.36, 0.2, -35), ellipse(0.68, 0.2, 0.36, 0.2, 35))
    legs = (ellipse(-0.46, 0.8, 0.3, 0.22, 15), ellipse(0.46, 0.8, 0.3, 0.22, -15))
    eyes = (ellipse(-0.24, -0.5, 0.085, 0.1), ellipse(0.24, -0.5, 0.085, 0.1))
    return Shape(
        (
            Part(Ink.BODY, ears),
            Part(Ink.CREAM, inner, 0),
            Part(Ink.BODY, arms),
            Part(Ink.BODY, legs),
            Part(Ink.BODY, (ellipse(0, 0.38, 0.58, 0.56),)),
            Part(Ink.BODY, (ellipse(0, -0.42, 0.64, 0.52),)),
            Part(Ink.CREAM, (ellipse(0, -0.24, 0.31, 0.22),), 0),
            Part(Ink.WHITE, eyes, 0.05),
            Part(Ink.DARK, eyes, 0),
            Part(Ink.DARK, (ellipse(0, -0.33, 0.12, 0.09), box(-0.03, -0.33, 0.03, -0.16, 0.02)), 0),
        ),
        (0.0, 0.46, 0.33),
    )


def _star() -> Shape:
    angles = np.deg2rad(np.arange(10) * 36 - 90)
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.5)
    corners = [
        (float(r * np.cos(a)), float(r * np.sin(a)) + 0.08) for r, a in zip(radii, angles, strict=True)
    ]
    shine = ellipse(-0.2, -0.14, 0.13, 0.07, -55)
    return Shape(
        (Part(Ink.BODY, (rounded(corners, 3, 0.14),)), Part(Ink.LIGHT, (shine,), 0, slot=True)),
        (0, 0.1, 0.36),
    )


def _ball() -> Shape:
    return Shape(
        (
            Part(Ink.SHADE, (ellipse(0, 0, 0.95, 0.95),)),
            Part(Ink.BODY, (ellipse(-0.06, -0.08, 0.84, 0.82),), 0),
            Part(Ink.LIGHT, (ellipse(-0.4, -0.46, 0.22, 0.13, -42),), 0),
        ),
        (0.05, 0.05, 0.44),
    )


def _heart() -> Shape:
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    outline = np.stack([x / 17, (y - 2.5) / 16], axis=1)
    return Shape(
        (Part(Ink.BODY, (outline,)), Part(Ink.LIGHT, (ellipse(-0.52, -0.5, 0.19, 0.11, -45),), 0)),
        (0.0, -0.1, 0.4),
    )


def _moon() -> Shape:
    disc, bite = ellipse(0, 0, 0.98, 0.98), ellipse(0.62, -0.22, 0.78, 0.78)
    eye = ellipse(-0.36, -0.02, 0.13, 0.1, 10, (0, 180))
    return Shape(
        (
            Part(Ink.BODY, (disc,), cut=(bite,)),
            Part(Ink.OUTLINE, (eye,), 0, (ellipse(-0.36, -0.05, 0.1, 0.06),), slot=True),
        ),
        (-0.44, 0.22, 0.36),
    )


def _house() -> Shape:
    return Shape(
        (
            Part(Ink.SHADE, (box(0.36, -0.9, 0.64, -0.2, 0.03),)),
            Part(Ink.BODY, (box(-0.74, -0.25, 0.74, 0.92, 0.06),)),
            Part(
                Ink.SHADE,
                (rounded([(0, -1.02), (1.04, -0.02), (0.94, 0.06), (-0.94, 0.06), (-1.04, -0.02)], 2, 0.12),),
            ),
            Part(Ink.CREAM, (box(-0.5, 0.34, -0.12, 0.92, 0.1),), 0.06, slot=True),
            Part(Ink.GLASS, (box(0.16, 0.32, 0.52, 0.64, 0.05),), 0.06, slot=True),
        ),
        (0.0, 0.48, 0.36),
    )


def _tree() -> Shape:
    def tier(top: float, bottom: float, half: float) -> Points:
        return rounded(
            [
                (0, top),
                (half, bottom - 0.06),
                (half * 0.8, bottom),
                (-half * 0.8, bottom),
                (-half, bottom - 0.06),
            ],
            3,
            0.14,
        )

    return Shape(
        (
            Part(Ink.TRUNK, (box(-0.17, 0.4, 0.17, 0.98, 0.05),)),
            Part(Ink.BODY, (tier(-0.35, 0.66, 0.86),)),
            Part(Ink.BODY, (tier(-0.72, 0.2, 0.7),)),
            Part(Ink.BODY, (tier(-1.04, -0.28, 0.52),)),
        ),
        (0.0, 0.3, 0.38),
    )


def _fish() -> Shape:
    tail = rounded([(0.34, 0), (0.72, -0.34), (1.02, -0.56), (0.9, 0), (1.02, 0.56), (0.72, 0.34)], 3, 0.2)
    fins = rounded([(-0.2, -0.42), (0.05, -0.82), (0.42, -0.74), (0.4, -0.3)], 3, 0.2)
    belly = rounded([(-0.1, 0.42), (0.1, 0.76), (0.36, 0.7), (0.3, 0.36)], 3, 0.2)
    return Shape(
        (
            Part(Ink.SHADE, (tail,)),
            Part(Ink.SHADE, (fins, belly)),
            Part(Ink.BODY, (ellipse(-0.2, 0, 0.8, 0.54),)),
            Part(Ink.WHITE, (ellipse(-0.62, -0.13, 0.17, 0.17),), 0.04),
            Part(Ink.DARK, (ellipse(-0.65, -0.12, 0.1, 0.1),), 0),
        ),
        (0.02, 0.02, 0.36),
    )


def _car() -> Shape:
    body = rounded(
        [(-1.0, -0.04), (-0.5, -0.12), (0.6, -0.12), (1.02, 0.0), (1.02, 0.48), (-1.02, 0.48)], 3, 0.12
    )
    cabin = rounded([(-0.66, 0.0), (-0.46, -0.62), (0.36, -0.62), (0.66, 0.0)], 3, 0.12)
    wheels = (ellipse(-0.54, 0.46, 0.26, 0.26), ellipse(0.54, 0.46, 0.26, 0.26))
    hubs = (ellipse(-0.54, 0.46, 0.11, 0.11), ellipse(0.54, 0.46, 0.11, 0.11))
    windows = (
        rounded([(-0.46, -0.12), (-0.35, -0.47), (-0.07, -0.47), (-0.07, -0.12)], 2, 0.1),
        rounded([(0.09, -0.12), (0.09, -0.47), (0.28, -0.47), (0.44, -0.12)], 2, 0.1),
    )
    return Shape(
        (
            Part(Ink.BODY, (cabin,)),
            Part(Ink.BODY, (body,)),
            Part(Ink.BODY, (box(-0.55, -0.16, 0.52, 0.1, 0.02),), 0),
            Part(Ink.GLASS, windows, 0.05),
            Part(Ink.CREAM, (ellipse(-0.92, 0.14, 0.1, 0.11),), 0.04),
            Part(Ink.DARK, wheels),
            Part(Ink.CREAM, hubs, 0),
        ),
        (0.0, 0.12, 0.3),
    )


def _boat() -> Shape:
    hull = rounded([(-1.0, 0.34), (1.0, 0.34), (0.66, 0.92), (-0.66, 0.92)], 3, 0.12)
    sail = rounded([(0.06, -0.98), (0.06, 0.2), (0.86, 0.2)], 3, 0.08)
    jib = rounded([(-0.12, -0.72), (-0.12, 0.2), (-0.7, 0.2)], 3, 0.08)
    return Shape(
        (
            Part(Ink.TRUNK, (box(-0.08, -0.96, 0.03, 0.4, 0.03),), 0.06),
            Part(Ink.BODY, (sail,)),
            Part(Ink.CREAM, (jib,)),
            Part(Ink.BODY, (hull,)),
        ),
        (0.0, 0.58, 0.3),
    )


def _mushroom() -> Shape:
    stem = rounded(
        [(-0.28, 0.0), (0.28, 0.0), (0.4, 0.84), (0.22, 0.96), (-0.22, 0.96), (-0.4, 0.84)], 3, 0.2
    )
    cap = np.concatenate(
        [ellipse(0, 0.1, 0.98, 1.04, 0, (180, 360)), ellipse(0, 0.1, 0.98, 0.2, 0, (0, 180))]
    )
    return Shape(
        (
            Part(Ink.CREAM, (stem,)),
            Part(Ink.BODY, (cap,)),
            Part(Ink.LIGHT, (ellipse(-0.5, -0.44, 0.2, 0.1, -48),), 0, slot=True),
        ),
        (0.0, -0.34, 0.42),
    )


def _umbrella() -> Shape:
    dome = ellipse(0, 0.16, 1.02, 1.0, 0, (180, 360))
    scallops = tuple(ellipse(x, 0.2, 0.255, 0.2) for x in (-0.765, -0.255, 0.255, 0.765))
    ribs = (ellipse(0, 0.16, 0.5, 0.99, 0, (180, 360)),)
    hook = ellipse(0.19, 0.78, 0.24, 0.22, 0, (-10, 180))
    return Shape(
        (
            Part(Ink.TRUNK, (box(-0.05, 0.0, 0.06, 0.82, 0.02),), 0.06),
            Part(Ink.TRUNK, (hook,), 0.06, cut=(ellipse(0.19, 0.74, 0.12, 0.13),)),
            Part(Ink.TRUNK, (box(-0.06, -1.02, 0.06, -0.7, 0.04),), 0.06),
            Part(Ink.BODY, (dome,), cut=scallops),
            Part(Ink.BODY, ribs, 0.05, cut=scallops),
        ),
        (0.0, -0.34, 0.38),
    )


_BUILDERS: Final[dict[str, Callable[[], Shape]]] = {
    "toy": _toy,
    "star": _star,
    "ball": _ball,
    "heart": _heart,
    "moon": _moon,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "car": _car,
    "boat": _boat,
    "mushroom": _mushroom,
    "umbrella": _umbrella,
}


def shape(noun: str) -> Shape:
    """The parts of a noun. A `KeyError` names one that is not in `NOUNS`."""
    return _BUILDERS[noun]()
