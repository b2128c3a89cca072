"""What an image should show: a prompt and what is known of its subjects. Pure data, free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from ..errors import UserError, did_you_mean
from .fields import Keys
from .images import Images, SpatialImage, map_images
from .images import ImageSource as ImageSource
from .phrases import occurrences
from .record import record


def _ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise ValueError("a box (left, top, right, bottom) with left < right and top < bottom")
    return box


_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Box = Annotated[tuple[_Fraction, _Fraction, _Fraction, _Fraction], AfterValidator(_ordered)]
"""(left, top, right, bottom) in fractions of the image, each in [0, 1]."""

Point = tuple[_Fraction, _Fraction]
"""(left, top) in fractions of the image, each in [0, 1]."""


@record
class Subject:
    """A phrase of the prompt with what is known of it.

    Args:
        phrase: words that occur in the scene's prompt.
        images: reference photos of this very subject; one may stand without a list.
        box: where it should be.
        mask: an image whose bright pixels are where it should be; finer than a box. `weft.core.scene.masks` says what
            each kind of file means.
        style: an image whose look it should take.
        occurrence: which one, counted from 1, when the phrase occurs more than once.
        keypoints: where parts of it should be, by name, for example ``{"nose": (0.5, 0.2)}``.
    """

    phrase: Annotated[str, Field(min_length=1)]
    images: Images = ()
    box: Box | None = None
    mask: SpatialImage | None = None
    style: ImageSource | None = None
    occurrence: Annotated[int, Field(ge=1)] | None = None
    keypoints: Mapping[str, Point] = Field(default_factory=dict)


@dataclass(frozen=True)
class SceneImage:
    """An image of a scene.

    Args:
        source: the image.
        place: how errors name it, for example ``"subject 'toy', field 'images'"``.
        keys: that lead to it from the scene.
        spatial: it says something of every place of the image that is drawn, whose size it has.
    """

    source: ImageSource
    place: str
    keys: Keys
    spatial: bool


@record
class Scene:
    """A prompt, its subjects and its spatial maps. Every phrase is checked against the prompt once, here.

    Args:
        prompt: the whole description.
        subjects: phrases of the prompt with images, boxes or masks.
        maps: spatial maps by name, for example ``{"edges": "edges.png"}``; several images of one name are a list.
        source: an image to edit.
        edit_mask: the part of the source that may change (bright pixels).

    Raises:
        UserError: a field is wrong, or a phrase does not occur, or occurs more than once without an occurrence.
    """

    prompt: str
    subjects: tuple[Subject, ...] = ()
    maps: Mapping[str, SpatialImage | tuple[SpatialImage, ...]] = Field(default_factory=dict)
    source: SpatialImage | None = None
    edit_mask: SpatialImage | None = None

    def __post_init__(self) -> None:
        for subject in self.subjects:
            locate(self.prompt, subject.phrase, subject.occurrence)

    def subject(self, phrase: str) -> Subject:
        """The subject of this phrase.

        Raises:
            UserError: no subject has it.
        """
        for subject in self.subjects:
            if subject.phrase == phrase:
                return subject
        known = [subject.phrase for subject in self.subjects]
        raise UserError("scene", f"a subject among {known}", f"'{phrase}'", did_you_mean(phrase, known))

    def images(self) -> tuple[SceneImage, ...]:
        """Every image of the scene, in the order of the fields."""
        images: list[SceneImage] = []

        def keep(image: SceneImage) -> ImageSource:
            images.append(image)
            return image.source

        self.map_images(keep)
        return tuple(images)

    def map_images(self, change: Callable[[SceneImage], ImageSource]) -> Scene:
        """The scene with what ``change`` gives in the place of every image."""

        def changed(source: Any, keys: Keys, spatial: bool) -> ImageSource:
            return change(SceneImage(source, self.place(keys), keys, spatial))

        scene: Scene = map_images(type(self), self, changed)
        return scene

    def place(self, keys: Keys) -> str:
        """How errors name what keys lead to: ``"subject 'toy', field 'images'"``, ``"scene, field 'maps.edges'"``."""
        holder = "scene"
        if keys[0] == "subjects" and isinstance(index := keys[1], int):
            holder, keys = f"subject '{self.subjects[index].phrase}'", keys[2:]
        return f"{holder}, field '{'.'.join(key for key in keys if isinstance(key, str))}'"


EVERYBODY = frozenset({"prompt", "subjects.phrase", "subjects.occurrence"})
"""What places words in the prompt: every plugin may read it without a word."""


def locate(prompt: str, phrase: str, occurrence: int | None = None) -> tuple[int, int]:
    """Character range (start, end) of a phrase in a prompt, as whole words, whatever the case.

    In scripts without spaces between words (Chinese, Japanese, Thai, ...) and in Korean, whose particles follow without
    one, a phrase may be a part of what stands together. A letter with an accent is the same in one character or two.

    Raises:
        UserError: the phrase is not there, is ambiguous without an ``occurrence``, or has fewer occurrences.
    """
    spans = occurrences(prompt, phrase)
    place = f"subject '{phrase}', field 'phrase'"
    if not spans:
        words = prompt.split()
        runs = [" ".join(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)]
        hint = did_you_mean(phrase, runs) or "A phrase repeats words of the prompt, in their order."
        raise UserError(place, "words of the prompt", f"no such words in '{prompt}'", hint)
    if occurrence is None:
        if len(spans) > 1:
            raise UserError(
                place, f"an occurrence from 1 to {len(spans)}", "none", "The phrase occurs more than once."
            )
        return spans[0]
    if occurrence > len(spans):
        times = "once" if len(spans) == 1 else f"{len(spans)} times"
        hint = f"The prompt has the phrase {times}."
        raise UserError(
            f"subject '{phrase}', field 'occurrence'", f"at most {len(spans)}", f"{occurrence}", hint
        )
    return spans[occurrence - 1]
