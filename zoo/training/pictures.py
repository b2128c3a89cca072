"""The rendered data set on disk: pictures, captions as tokens, altered captions, and what is where.

Rendered once, read by every stage: stages train at the speed of the model, not of the renderer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from numpy.lib.format import open_memmap
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import CLIPTokenizer

from ..world import BACKGROUNDS, COLORS, NOUNS, PATTERNS, TRAIN_SUBJECTS, Picture, Thing, portrait, sample
from ..world.captions import phrase

KINDS = {"noun": len(NOUNS), "color": len(COLORS), "pattern": len(PATTERNS)}
"""What is known of every object by a word, and how many words there are."""
THINGS = 4  # at most so many objects in a picture
MASK = 16  # masks are kept at the size of the latents


class PicturesRecipe(BaseModel):
    """Recipe of the stage ``pictures``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(gt=0)
    captions: int = Field(4, gt=0, description="captions a picture")
    counts: tuple[float, float, float, float] = Field(
        description="shares of pictures with 1, 2, 3 and 4 objects"
    )
    subjects: float = Field(
        0.2, ge=0, le=1, description="chance that an object is a subject, an instance of its noun"
    )
    portrait_subjects: int = Field(1000, gt=0, description="training subjects that get portraits")
    portraits: int = Field(8, ge=0, description="portraits of each of them")
    tokens: int = Field(56, gt=2, le=77, description="tokens kept of a caption")
    size: int = 64
    seed: int = 0
    workers: int = 2


def seed_of(recipe: PicturesRecipe, index: int) -> int:
    """Seed of picture ``index``; the world keeps splits apart itself."""
    return recipe.seed * 100_000_000 + index


def count_of(recipe: PicturesRecipe, index: int) -> int:
    """Number of objects of picture ``index``."""
    return random.Random(seed_of(recipe, index)).choices((1, 2, 3, 4), recipe.counts)[0]


def noun_ends(text: str, things: Sequence[Thing]) -> list[int | None]:
    """For each object, the character after its noun in ``text``; None if its phrase does not occur exactly once."""
    ends: list[int | None] = []
    for thing in things:
        found = list(re.finditer(rf"\b{re.escape(phrase(thing.noun, thing.color, thing.pattern))}\b", text))
        ends.append(found[0].end() if len(found) == 1 else None)
    return ends


def altered(picture: Picture, rng: random.Random) -> Picture:
    """``picture`` with one thing wrong: its caption is the hard negative of the right one (NegCLIP, arXiv 2210.01936).

    Two objects exchange colours, patterns or places, or one word (noun, colour, pattern, background) is another.
    """
    things = list(picture.objects)
    named = [i for i, thing in enumerate(things) if thing.color is not None]
    if len(named) >= 2 and rng.random() < 0.5:
        i, j = rng.sample(named, 2)
        one, other = things[i], things[j]
        things[i] = replace(one, color=other.color, pattern=other.pattern)
        things[j] = replace(other, color=one.color, pattern=one.pattern)
    elif len(things) >= 2 and rng.random() < 0.2:
        i, j = rng.sample(range(len(things)), 2)
        things[i], things[j] = replace(things[i], box=things[j].box), replace(things[j], box=things[i].box)
    else:
        i = rng.choice(named) if named else 0
        what = rng.choice(("noun", "color", "pattern", "background") if named else ("noun", "background"))
        if what == "background":
            background = rng.choice([b for b in BACKGROUNDS if b != picture.background])
            return replace(picture, background=background)
        words: tuple[str, ...] = {"noun": NOUNS, "color": tuple(COLORS), "pattern": PATTERNS}[what]
        new = rng.choice([word for word in words if word != getattr(things[i], what)])
        changed: dict[str, Any] = {what: new}
        things[i] = replace(things[i], **changed)
    return replace(picture, objects=tuple(things))


_tokenizer: CLIPTokenizer | None = None


def _start(folder: str) -> None:
    global _tokenizer
    torch.set_num_threads(1)
    _tokenizer = CLIPTokenizer.from_pretrained(folder)


def _one(job: tuple[PicturesRecipe, int]) -> dict[str, Any]:
    """Everything kept of one picture."""
    recipe, index = job
    assert _tokenizer is not None
    seed = seed_of(recipe, index)
    picture = sample(seed, split="train", count=count_of(recipe, index), subjects=recipe.subjects)
    rng = random.Random(seed + 1)
    texts = [picture.caption(k) for k in range(recipe.captions)]
    # "next to" holds both ways, so an exchange of places would leave such a caption true.
    wrong = [altered(picture, rng).caption(k) for k in range(recipe.captions)]
    wrong = [right if "next to" in other else other for right, other in zip(texts, wrong, strict=True)]
    tokens = np.full((2, recipe.captions, recipe.tokens), _tokenizer.eos_token_id, np.int16)
    nouns = np.full((recipe.captions, THINGS), -1, np.int16)
    for k, text in enumerate(texts):
        ids = _tokenizer(text, truncation=True, max_length=recipe.tokens)
        tokens[0, k, : len(ids["input_ids"])] = ids["input_ids"]
        for i, end in enumerate(noun_ends(text, picture.objects)):
            position = None if end is None else ids.char_to_token(end - 1)
            nouns[k, i] = -1 if position is None else position
    for k, text in enumerate(wrong):
        ids = _tokenizer(text, truncation=True, max_length=recipe.tokens)["input_ids"]
        tokens[1, k, : len(ids)] = ids
    colors = tuple(COLORS)
    labels = np.full((THINGS, 3), -1, np.int16)
    masks = np.zeros((THINGS, MASK, MASK), np.uint8)
    for i, (thing, mask) in enumerate(zip(picture.objects, picture.masks(recipe.size), strict=True)):
        color = -1 if thing.color is None else colors.index(thing.color)
        labels[i] = (
            NOUNS.index(thing.noun),
            color,
            -1 if thing.pattern is None else PATTERNS.index(thing.pattern),
        )
        blocks = rearrange(np.asarray(mask, np.float32), "(h a) (w b) -> h w a b", h=MASK, w=MASK)
        masks[i] = np.round(255 * blocks.mean((2, 3)))
    return {
        "images": picture.image(recipe.size),
        "tokens": tokens,
        "nouns": nouns,
        "labels": labels,
        "masks": masks,
    }


def _portraits(job: tuple[PicturesRecipe, int]) -> UInt8[np.ndarray, "n h w 3"]:
    recipe, subject = job
    return np.stack(
        [portrait(subject, seed, recipe.size).image(recipe.size) for seed in range(recipe.portraits)]
    )


def build(recipe: PicturesRecipe, tokenizer: Path, out: Path) -> None:
    """Render the data set into ``out``: one .npy file a field, first axis the picture."""
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {}
    with ProcessPoolExecutor(recipe.workers, initializer=_start, initargs=(str(tokenizer),)) as pool:
        jobs = ((recipe, i) for i in range(recipe.pictures))
        for i, fields in enumerate(pool.map(_one, jobs, chunksize=64)):
            for name, value in fields.items():
                if name not in files:
                    shape = (recipe.pictures, *value.shape)
                    files[name] = open_memmap(out / f"{name}.npy", "w+", dtype=value.dtype, shape=shape)
                files[name][i] = value
            if (i + 1) % 5000 == 0:
                print(f"{i + 1} of {recipe.pictures} pictures", flush=True)
        people = list(
            pool.map(
                _portraits, ((recipe, s) for s in TRAIN_SUBJECTS[: recipe.portrait_subjects]), chunksize=16
            )
        )
    for file in files.values():
        file.flush()
    np.save(out / "portraits.npy", np.stack(people))


def pixels(images: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Bytes to floats in [-1, 1], channels first."""
    return rearrange(torch.from_numpy(np.array(images)), "n h w c -> n c h w").float() / 127.5 - 1


@dataclass(frozen=True)
class Batch:
    """Some pictures with one caption each. Noun positions and labels are -1 where there is none."""

    index: Int[Tensor, " b"]
    tokens: Int[Tensor, "b l"]
    negatives: Int[Tensor, "b l"]
    nouns: Int[Tensor, "b 4"]
    labels: Int[Tensor, "b 4 kinds"]
    masks: Float[Tensor, "b 4 16 16"]


class Pictures:
    """The data set in ``folder``, read lazily; every draw takes the step's own generator."""

    def __init__(self, folder: Path) -> None:
        self._files = {f.stem: np.load(f, mmap_mode="r") for f in folder.glob("*.npy")}

    def __len__(self) -> int:
        return len(self._files["images"])

    def at(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
        """The pictures at ``index``."""
        return pixels(self._files["images"][index.numpy()])

    def first(self, n: int) -> Float[Tensor, "n 3 h w"]:
        """The first ``n`` pictures, for previews."""
        return pixels(self._files["images"][:n])

    def portraits(self, rng: torch.Generator, n: int) -> Float[Tensor, "n 3 h w"]:
        """``n`` portraits of subjects drawn with replacement."""
        return self.portrait_pairs(rng, n, views=1)[:, 0]

    def portrait_pairs(self, rng: torch.Generator, n: int, views: int = 2) -> Float[Tensor, "n views 3 h w"]:
        """``views`` portraits of each of ``n`` different subjects."""
        file = self._files["portraits"]
        subjects = torch.randperm(len(file), generator=rng)[:n]
        seeds = torch.randint(file.shape[1], (n, views), generator=rng)
        found = file[subjects[:, None].numpy(), seeds.numpy()]
        return rearrange(
            pixels(rearrange(found, "n v h w c -> (n v) h w c")), "(n v) c h w -> n v c h w", v=views
        )

    def batch(
        self, rng: torch.Generator, n: int, portraits: int
    ) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]:
        """``n`` pictures, the last of them so many portraits, and how much of each pixel is of a thing, 0 to 1."""
        index = torch.randint(len(self), (n - portraits,), generator=rng)
        images = torch.cat([self.at(index), self.portraits(rng, portraits)])
        masks = torch.from_numpy(self._files["masks"][index.numpy()].astype(np.float32) / 255)
        shown = F.interpolate(masks.sum(1, keepdim=True).clamp(max=1), images.shape[-2:])
        return images, torch.cat([shown, torch.ones(portraits, 1, *images.shape[-2:])])

    def captions(self, rng: torch.Generator, n: int) -> Batch:
        """``n`` pictures drawn with replacement, each with one of its captions."""
        files = self._files
        index = torch.randint(len(self), (n,), generator=rng)
        which = torch.randint(files["tokens"].shape[2], (n,), generator=rng)
        i, k = index.numpy(), which.numpy()
        return Batch(
            index=index,
            tokens=torch.from_numpy(files["tokens"][i, 0, k].astype(np.int64)),
            negatives=torch.from_numpy(files["tokens"][i, 1, k].astype(np.int64)),
            nouns=torch.from_numpy(files["nouns"][i, k].astype(np.int64)),
            labels=torch.from_numpy(files["labels"][i].astype(np.int64)),
            masks=torch.from_numpy(files["masks"][i].astype(np.float32) / 255),
        )
