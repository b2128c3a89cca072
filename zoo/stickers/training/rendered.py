"""The rendered data set on disk: pictures, captions as tokens, altered captions, and what is where.

Rendered once, read by every stage but the autoencoder's: stages train at the speed of the model, not of the renderer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from numpy.lib.format import open_memmap
from transformers import CLIPTokenizer

from ...training.pictures import MASK, THINGS, PicturesRecipe, count_of, seed_of
from ..captions import phrase
from ..scenes import Picture, portrait, sample
from ..subjects import TRAIN_SUBJECTS
from ..things import Thing
from ..vocabulary import BACKGROUNDS, CATEGORIES, COLORS, NOUNS, TINTED

WORDS = (*NOUNS, *CATEGORIES)
KINDS = {"noun": len(WORDS), "color": len(COLORS)}
"""What is known of every object by a word, and how many words there are."""


def noun_ends(text: str, things: Sequence[Thing]) -> list[int | None]:
    """For each object, the character after its noun in ``text``; None if its phrase does not occur exactly once."""
    ends: list[int | None] = []
    for thing in things:
        places = list(re.finditer(rf"\b{re.escape(phrase(thing.noun, thing.color))}\b", text))
        ends.append(places[0].end() if len(places) == 1 else None)
    return ends


def altered(picture: Picture, rng: random.Random) -> Picture:
    """``picture`` with one thing wrong: its caption is the hard negative of the right one (NegCLIP, arXiv 2210.01936).

    Two objects exchange colours or places, or one word (noun, colour, background) is another.
    """
    things = list(picture.objects)
    colored = [i for i, thing in enumerate(things) if thing.color is not None]
    if len(colored) >= 2 and rng.random() < 0.5:
        i, j = rng.sample(colored, 2)
        things[i], things[j] = (
            replace(things[i], color=things[j].color),
            replace(things[j], color=things[i].color),
        )
    elif len(things) >= 2 and rng.random() < 0.2:
        i, j = rng.sample(range(len(things)), 2)
        things[i], things[j] = replace(things[i], box=things[j].box), replace(things[j], box=things[i].box)
    else:
        what = rng.choice(("noun", "color", "background") if colored else ("noun", "background"))
        if what == "background":
            return replace(
                picture, background=rng.choice([b for b in BACKGROUNDS if b != picture.background])
            )
        if what == "color":
            i = rng.choice(colored)
            things[i] = replace(things[i], color=rng.choice([c for c in COLORS if c != things[i].color]))
        else:
            i = rng.randrange(len(things))
            color = things[i].color
            nouns = sorted(TINTED) if color else NOUNS
            things[i] = replace(things[i], noun=rng.choice([n for n in nouns if n != things[i].noun]))
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
    labels = np.full((THINGS, len(KINDS)), -1, np.int16)
    masks = np.zeros((THINGS, MASK, MASK), np.uint8)
    for i, (thing, mask) in enumerate(zip(picture.objects, picture.masks(), strict=True)):
        labels[i] = WORDS.index(thing.noun), -1 if thing.color is None else colors.index(thing.color)
        blocks = rearrange(np.asarray(mask, np.float32), "(h a) (w b) -> h w a b", h=MASK, w=MASK)
        masks[i] = np.round(255 * blocks.mean((2, 3)))
    return {"images": picture.image(), "tokens": tokens, "nouns": nouns, "labels": labels, "masks": masks}


def _portraits(job: tuple[PicturesRecipe, int]) -> UInt8[np.ndarray, "n h w 3"]:
    recipe, subject = job
    return np.stack([portrait(subject, seed).image() for seed in range(recipe.portraits)])


def _jobs(recipe: PicturesRecipe) -> Iterator[tuple[PicturesRecipe, int]]:
    return ((recipe, i) for i in range(recipe.pictures))


def build(recipe: PicturesRecipe, tokenizer: Path, out: Path) -> None:
    """Render the data set into ``out``: one .npy file a field, first axis the picture.

    The folder appears when it is whole.
    """
    unfinished = out.with_suffix(".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {}
    with ProcessPoolExecutor(recipe.workers, initializer=_start, initargs=(str(tokenizer),)) as pool:
        for i, fields in enumerate(pool.map(_one, _jobs(recipe), chunksize=64)):
            for name, value in fields.items():
                if name not in files:
                    shape = (recipe.pictures, *value.shape)
                    files[name] = open_memmap(
                        unfinished / f"{name}.npy", "w+", dtype=value.dtype, shape=shape
                    )
                files[name][i] = value
            if (i + 1) % 5000 == 0:
                print(f"{i + 1} of {recipe.pictures} pictures", flush=True)
        people = [(recipe, subject) for subject in TRAIN_SUBJECTS[: recipe.portrait_subjects]]
        for i, images in enumerate(pool.map(_portraits, people, chunksize=16)):
            if i == 0:
                shape = (len(people), *images.shape)
                files["portraits"] = open_memmap(
                    unfinished / "portraits.npy", "w+", dtype=np.uint8, shape=shape
                )
            files["portraits"][i] = images
    for file in files.values():
        file.flush()
    unfinished.rename(out)
