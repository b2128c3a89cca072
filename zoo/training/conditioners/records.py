"""What conditioners are trained on: pictures with their scenes, from the procedural world or from a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from ....core.errors import UserError
from ....core.scene import Scene, Subject
from ....core.scene.pixels import open_image
from ...world import Picture, Thing, portrait, sample
from ...world.captions import phrase

SUBJECTS = 4
"""Subjects of a picture, at most."""


@dataclass(frozen=True)
class Record:
    """A picture, and one scene for each of its captions: the same subjects under different words."""

    picture: Image.Image
    scenes: tuple[Scene, ...]


class WorldSource(BaseModel):
    """Pictures of the procedural world; subjects that words cannot say come with portraits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(gt=0)
    captions: int = Field(2, gt=0)
    subjects: float = Field(0.5, ge=0, le=1, description="chance that an object is an individual")
    single: float = Field(
        0.0, ge=0, le=1, description="chance of one large object, beside the usual one to four"
    )
    portraits: int = Field(4, gt=0, description="reference pictures of an individual")
    size: int = Field(64, gt=0, description="pixels along a side")
    first: int = Field(700_000_000, ge=0, description="number of the first picture")

    def records(self) -> Iterator[Record]:
        """The pictures, in the order of their numbers."""
        for number in range(self.first, self.first + self.pictures):
            one = np.random.default_rng([17, number]).random() < self.single
            picture = sample(number, "train", 1 if one else None, self.subjects)
            yield world_record(
                picture, [picture.caption(k) for k in range(self.captions)], self.size, self.portraits
            )


class FolderSource(BaseModel):
    """Pictures of a folder; each line of its ``scenes.jsonl`` is ``{"image", "prompt", "subjects": [...]}``.

    A subject is as in a run file: ``phrase``, ``box``, and paths of ``images`` and ``mask`` below the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    size: int = Field(512, gt=0, description="pixels along a side; pictures are resized to a square")

    def records(self) -> Iterator[Record]:
        """The pictures, in the order of the lines.

        Raises:
            UserError: a line is not JSON of that form, or names a file that cannot be read; it says which line.
        """
        index = self.folder / "scenes.jsonl"
        if not index.is_file():
            raise UserError("data", "a folder with scenes.jsonl", f"'{self.folder}'")
        for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                yield self._record(line, f"scenes.jsonl, line {number}")

    def _record(self, line: str, place: str) -> Record:
        try:
            data: dict[str, Any] = json.loads(line)
            subjects = [self._subject(subject) for subject in data.get("subjects", ())]
            scene = Scene(data["prompt"], subjects=tuple(subjects[:SUBJECTS]))
            picture = open_image(self.folder / data["image"], f"{place}, field 'image'")
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(
                place, '{"image": ..., "prompt": ..., "subjects": [...]}', f"{line[:80]} ({error})"
            ) from None
        return Record(picture.resize((self.size, self.size), Image.Resampling.LANCZOS), (scene,))

    def _subject(self, data: dict[str, Any]) -> Subject:
        paths = {name: self.folder / data[name] for name in ("mask",) if data.get(name)}
        images = tuple(self.folder / path for path in data.get("images", ()))
        rest = {name: value for name, value in data.items() if name not in ("mask", "images")}
        return Subject(**rest, **paths, images=images)


def world_record(picture: Picture, captions: list[str], size: int, portraits: int = 1) -> Record:
    """A picture of the world with what is known of its objects; of individuals also ``portraits``."""
    masks = picture.masks(size)
    subjects = tuple(
        Subject(
            name(thing),
            images=()
            if thing.subject is None
            else tuple(reference(thing.subject, k, size) for k in range(portraits)),
            box=thing.box,
            mask=Image.fromarray(mask.astype(np.uint8) * 255),
        )
        for thing, mask in zip(picture.objects, masks, strict=True)
    )
    scenes = tuple(Scene(caption, subjects=subjects) for caption in captions)
    return Record(Image.fromarray(picture.image(size)), scenes)


def name(thing: Thing) -> str:
    """The words of a caption that name an object, without their article."""
    return phrase(thing.noun, thing.color, thing.pattern).split(" ", 1)[1]


@lru_cache(maxsize=50_000)
def reference(subject: int, number: int, size: int = 64) -> Image.Image:
    """A portrait of an individual; the same object for the same arguments."""
    return Image.fromarray(portrait(subject, number, size).image(size))
