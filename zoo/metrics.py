"""What the judge can say of a picture of the synthetic world, as metrics for run files. Free of torch at import."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image

from ..core.api.metric import Measure, Metric
from ..core.scene import Scene

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from .judge import Reading, Seen

SIDE: Final = 128
"""Pictures are read at this size, in pixels."""


@dataclass(frozen=True)
class Asked:
    """An object that a prompt names.

    Args:
        noun: one of the world's.
        color: None when the prompt names none.
        pattern: likewise.
    """

    noun: str
    color: str | None
    pattern: str | None

    def fits(self, seen: Seen) -> bool:
        """Whether an object that the judge sees is what was asked for."""
        same_color = self.color in (None, seen.color)
        return self.noun == seen.noun and same_color and self.pattern in (None, seen.pattern)


def asked(text: str) -> list[Asked]:
    """The objects of a prompt or of a phrase, in order; adjectives stand right before their noun."""
    from .world.vocabulary import COLORS, NOUNS, PATTERNS

    words = re.findall(r"[a-z]+", text.lower())
    found = []
    for place, noun in enumerate(words):
        if noun in NOUNS:
            color = pattern = None
            for word in reversed(words[:place]):
                if word in COLORS and color is None:
                    color = word
                elif word in PATTERNS and pattern is None:
                    pattern = word
                else:
                    break
            found.append(Asked(noun, color, pattern))
    return found


def objects(image: Image.Image, scene: Scene) -> float | None:
    """Share of the objects in the prompt that are seen, each with its colour and pattern; in [0, 1]."""
    wanted = asked(scene.prompt)
    if not wanted:
        return None
    left = list(_read(image).objects)
    right = 0
    # those with the most words first, so that "a star" does not take the red one from "a red star"
    for one in sorted(wanted, key=lambda one: (one.color is None) + (one.pattern is None)):
        match = next((seen for seen in left if one.fits(seen)), None)
        if match is not None:
            left.remove(match)
            right += 1
    return right / len(wanted)


def background(image: Image.Image, scene: Scene) -> float | None:
    """1 when the background in the prompt is seen, otherwise 0."""
    from .world.captions import BACKGROUND_PHRASES

    text = scene.prompt.lower()
    named = [name for name, phrases in BACKGROUND_PHRASES.items() if any(words in text for words in phrases)]
    return float(_read(image).background in named) if named else None


def placement(image: Image.Image, scene: Scene) -> float | None:
    """Mean overlap (intersection over union) of the boxes asked for with the objects seen; in [0, 1]."""
    from .judge.model import overlap

    boxed = [(subject.box, asked(subject.phrase)) for subject in scene.subjects if subject.box is not None]
    pairs = [(box, words[-1]) for box, words in boxed if words]
    if not pairs:
        return None
    seen = _read(image).objects
    best = [
        max((overlap(box, one.box) for one in seen if one.noun == words.noun), default=0.0)
        for box, words in pairs
    ]
    return sum(best) / len(best)


def identity(image: Image.Image, scene: Scene) -> float | None:
    """Mean likeness (cosine) of subjects to their reference pictures; in [-1, 1], 0 where a subject is not seen."""
    from ..core.scene.pixels import open_image

    likeness = []
    for subject in scene.subjects:
        words = asked(subject.phrase)
        if words and subject.images:
            place = f"subject '{subject.phrase}', field 'images'"
            references = [open_image(source, place) for source in subject.images]
            likeness.append(_likeness(image, references, words[-1].noun))
    return sum(likeness) / len(likeness) if likeness else None


def _likeness(image: Image.Image, references: Sequence[Image.Image], noun: str) -> float:
    import torch

    from . import judge

    boxes = [_box(picture, noun) for picture in (image, *references)]
    if boxes[0] is None:
        return 0.0
    whole = (0.0, 0.0, 1.0, 1.0)
    pixels = torch.stack([_pixels(picture) for picture in (image, *references)])
    drawn, *shown = judge.identity(pixels, torch.tensor([box or whole for box in boxes]))
    return sum(float(drawn @ one) for one in shown) / len(shown)


def _box(image: Image.Image, noun: str) -> tuple[float, float, float, float] | None:
    return next((seen.box for seen in _read(image).objects if seen.noun == noun), None)


def _read(image: Image.Image) -> Reading:
    return _read_bytes(_fitted(image).tobytes())


@functools.lru_cache(maxsize=32)
def _read_bytes(pixels: bytes) -> Reading:
    # several metrics read one picture after the other
    from . import judge

    image = Image.frombytes("RGB", (SIDE, SIDE), pixels)
    (reading,) = judge.read(_pixels(image)[None])
    return reading


def _pixels(image: Image.Image) -> Float[Tensor, "3 h w"]:
    from ..core.scene.pixels import to_tensor

    return to_tensor(_fitted(image))


def _fitted(image: Image.Image) -> Image.Image:
    rgb = image.convert("RGB")
    return rgb if rgb.size == (SIDE, SIDE) else rgb.resize((SIDE, SIDE), Image.Resampling.BOX)


def metrics() -> Mapping[str, Metric]:
    """Every metric by its name."""
    share, cosine = (0.0, 1.0), (-1.0, 1.0)
    return {
        "objects": _metric(objects, share),
        "background": _metric(background, share),
        "placement": _metric(placement, share, "subjects.box"),
        "identity": _metric(identity, cosine, "subjects.images"),
    }


def _metric(measure: Measure, bounds: tuple[float, float], *scene_fields: str) -> Metric:
    return Metric((measure.__doc__ or "").strip(), measure, bounds, frozenset(scene_fields))
