"""Everything that is frozen, computed once: latents, tokens, and features of phrases and of reference pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ....core.api.model_view import ModelView
from ....core.api.text_encoder import PromptTokens
from ....core.pipeline import Pipeline
from ....core.scene import ImageSource, Scene
from ....core.scene.pixels import open_image, to_tensor
from ....plugins.conditioners.fusion_text.prompt import PLACEHOLDER
from ....plugins.conditioners.fusion_text.read import extended_tokens
from ....plugins.conditioners.grounding.features import phrase_features
from ....plugins.shared.subject_words import noun_positions
from .records import SUBJECTS, Record

NOUN_TOKENS = 4
"""Tokens of a noun, at most."""
BATCH = 32


@dataclass(frozen=True)
class Batch:
    """Some pictures with one caption each; ``s`` subjects, of which some are unknown, with ``k`` references each.

    Args:
        latents: scaled.
        ids: tokens of the caption.
        nouns: positions of each subject's noun, -1 where there is none.
        extended: tokens of the caption with a clause for every subject that has references, for `fusion_text`.
        placeholders: positions of their placeholders, -1 where there is none.
        boxes: (left, top, right, bottom) in fractions.
        masks: share of every latent position that shows the subject.
        phrases: features of each subject's phrase, for grounding.
        known: whether there is such a subject.
        pooled, patches: features of the reference pictures; the patches of the first alone.
        referenced: whether there is such a reference.
        number: of the sample in the batch as it was drawn.
    """

    latents: Float[Tensor, "b c h w"]
    ids: Int[Tensor, "b t"]
    nouns: Int[Tensor, "b s 4"]
    extended: Int[Tensor, "b t"]
    placeholders: Int[Tensor, "b s 4"]
    boxes: Float[Tensor, "b s 4"]
    masks: Float[Tensor, "b s h w"]
    phrases: Float[Tensor, "b s d"]
    known: Bool[Tensor, "b s"]
    pooled: Float[Tensor, "b s k e"]
    patches: Float[Tensor, "b s p v"]
    referenced: Bool[Tensor, "b s k"]
    number: Int[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, rows: Int[Tensor, " r"]) -> Batch:
        """Some of its samples, which keep their numbers."""
        return Batch(**{name: value[rows] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def build(
    records: Iterator[Record], count: int | None, pipe: Pipeline, image_encoder: dict[str, Any], out: Path
) -> int:
    """Write the arrays of the records to ``out``: one .npy file a field, first axis the picture.

    Args:
        records: pictures and their scenes, all with as many captions as the first.
        count: how many there are, for the progress line; None where that is not known.
        pipe: the frozen model.
        image_encoder: arguments of `Host.image_tower`.
        out: a folder, made anew.

    Returns:
        how many pictures there are.
    """
    out.mkdir(parents=True, exist_ok=True)
    references = References(pipe.view(pipe.size), image_encoder)
    phrases: dict[str, int] = {}
    columns: dict[str, list[np.ndarray[Any, Any]]] = {}
    done = 0
    while chunk := list(islice(records, BATCH)):
        for field, value in _chunk(chunk, pipe, references, phrases).items():
            columns.setdefault(field, []).append(value)
        done += len(chunk)
        if done % (BATCH * 50) == 0:
            print(f"{done}{f' of {count}' if count else ''} pictures", flush=True)
    for field, parts in columns.items():
        np.save(out / f"{field}.npy", np.concatenate(parts))
    model = pipe.view(pipe.size)
    with torch.no_grad():
        words = torch.cat([phrase_features(model.text, [text]) for text in phrases])
    np.save(out / "words.npy", words.float().cpu().numpy())
    references.write(out)
    return done


def _chunk(
    chunk: list[Record], pipe: Pipeline, references: References, phrases: dict[str, int]
) -> dict[str, np.ndarray[Any, Any]]:
    pixels = torch.stack([to_tensor(record.picture) for record in chunk]).to(pipe.view(pipe.size).device)
    size = (pixels.shape[2], pixels.shape[3])
    model = pipe.view(size)
    with torch.no_grad():
        latents = model.latents(pixels * 2 - 1).half().cpu().numpy()
    ids, nouns, boxes, masks, words, shown = [], [], [], [], [], []
    extended, placeholders = [], []
    for record in chunk:
        tokens = [model.text.tokens(scene.prompt) for scene in record.scenes]
        ids.append([read.ids for read in tokens])
        pairs = list(zip(tokens, record.scenes, strict=True))
        nouns.append([_places(noun_positions(read, scene.subjects)) for read, scene in pairs])
        longer = [_extended(scene, model) for scene in record.scenes]
        extended.append([read.ids for read, _ in longer])
        placeholders.append([_places(found) for _, found in longer])
        first = record.scenes[0]
        boxes.append(_padded([list(subject.box or (0, 0, 1, 1)) for subject in first.subjects], 4, 0.0))
        masks.append(_masks(first, model))
        words.append(
            _padded([[phrases.setdefault(s.phrase, len(phrases))] for s in first.subjects], 1, -1)[:, 0]
        )
        rows = [[references.number(image) for image in s.images] for s in first.subjects]
        shown.append(_padded([(row + [-1] * SUBJECTS)[:SUBJECTS] for row in rows], SUBJECTS, -1))
    return {
        "latents": latents,
        "ids": np.array(ids, np.uint16),
        "nouns": np.array(nouns, np.int8),
        "extended": np.array(extended, np.uint16),
        "placeholders": np.array(placeholders, np.int8),
        "boxes": np.array(boxes, np.float32),
        "masks": np.array(masks, np.uint8),
        "phrases": np.array(words, np.int32),
        "references": np.array(shown, np.int32),
    }


def _extended(scene: Scene, model: ModelView) -> tuple[PromptTokens, Mapping[int, Sequence[int]]]:
    shown = {number: subject for number, subject in enumerate(scene.subjects) if subject.images}
    return extended_tokens(model.text, model.text.tokens(scene.prompt), shown, PLACEHOLDER)


def _places(positions: Mapping[int, Sequence[int]]) -> np.ndarray[Any, Any]:
    """Token positions by subject as a table, -1 where there is none."""
    table = np.full((SUBJECTS, NOUN_TOKENS), -1)
    for number, found in positions.items():
        table[number, : len(found)] = list(found)[:NOUN_TOKENS]
    return table


def _masks(scene: Scene, model: ModelView) -> np.ndarray[Any, Any]:
    height, width = model.latent_size
    masks = np.zeros((SUBJECTS, height, width), np.uint8)
    for number, subject in enumerate(scene.subjects):
        region = model.region(subject)
        if region is not None:
            small = F.interpolate(region[None, None].float(), size=(height, width), mode="area")[0, 0]
            masks[number] = (small * 255).round().byte().cpu().numpy()
    return masks


def _padded(rows: list[Any], width: int, blank: float) -> np.ndarray[Any, Any]:
    table = np.full((SUBJECTS, width), blank)
    if rows:
        table[: len(rows)] = np.array(rows)
    return table


class References:
    """Features of reference pictures, each picture read once."""

    def __init__(self, model: ModelView, image_encoder: dict[str, Any]) -> None:
        self._model, self._arguments = model, image_encoder
        self._numbers: dict[Any, int] = {}
        self._pooled: list[np.ndarray[Any, Any]] = []
        self._patches: list[np.ndarray[Any, Any]] = []
        self._waiting: list[Image.Image] = []
        self._kept: list[ImageSource] = []  # a picture that is known by its id must not be freed

    def number(self, image: ImageSource) -> int:
        """Which reference a picture is."""
        key = id(image) if isinstance(image, Image.Image) else str(image)
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._kept.append(image)
            self._waiting.append(open_image(image, "reference picture"))
            if len(self._waiting) == BATCH:
                self._read()
        return self._numbers[key]

    def _read(self) -> None:
        if self._waiting:
            tower = self._model.image_tower(**self._arguments)
            features = tower(tower.pixels(self._waiting))
            self._pooled.append(features.pooled.half().cpu().numpy())
            self._patches.append(features.patches.half().cpu().numpy())
            self._waiting.clear()

    def write(self, out: Path) -> None:
        """Write pooled.npy [r, e] and patches.npy [r, p, w]."""
        self._read()
        if not self._pooled:
            return
        np.save(out / "pooled.npy", np.concatenate(self._pooled))
        total = sum(len(part) for part in self._patches)
        file = open_memmap(
            out / "patches.npy", "w+", dtype=np.float16, shape=(total, *self._patches[0].shape[1:])
        )
        start = 0
        for part in self._patches:
            file[start : start + len(part)] = part
            start += len(part)
        file.flush()


class Examples:
    """The arrays in ``folder``, read lazily; every draw takes the step's own generator."""

    def __init__(self, folder: Path) -> None:
        self._files = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}

    def __len__(self) -> int:
        return len(self._files["latents"])

    def batch(self, rng: torch.Generator, n: int, shown: Bool[Tensor, " n"] | None = None) -> Batch:
        """``n`` pictures drawn with replacement, each with one of its captions.

        Args:
            rng: on the CPU.
            n: how many.
            shown: which of them are pictures of which some subject has a reference; the others are any.
        """
        i = torch.randint(len(self), (n,), generator=rng).numpy()
        if shown is not None and shown.any():
            among = torch.randint(len(self._shown), (n,), generator=rng).numpy()
            i = np.where(shown.numpy(), self._shown[among], i)
        files = self._files
        k = torch.randint(files["ids"].shape[1], (n,), generator=rng).numpy()
        references = torch.from_numpy(files["references"][i].astype(np.int64))
        # the references of a subject in another order every time, so that each is first at times
        order = torch.rand(references.shape, generator=rng).masked_fill(references < 0, 2.0).argsort(-1)
        references = references.gather(-1, order)
        words = files["phrases"][i]
        return Batch(
            latents=torch.from_numpy(files["latents"][i].astype(np.float32)),
            ids=torch.from_numpy(files["ids"][i, k].astype(np.int64)),
            nouns=torch.from_numpy(files["nouns"][i, k].astype(np.int64)),
            extended=torch.from_numpy(files["extended"][i, k].astype(np.int64)),
            placeholders=torch.from_numpy(files["placeholders"][i, k].astype(np.int64)),
            boxes=torch.from_numpy(files["boxes"][i]),
            masks=torch.from_numpy(files["masks"][i].astype(np.float32) / 255),
            phrases=torch.from_numpy(files["words"][np.maximum(words, 0)]),
            known=torch.from_numpy(words >= 0),
            pooled=self._features("pooled", references),
            patches=self._features("patches", references[..., 0]),
            referenced=references >= 0,
            number=torch.arange(n),
        )

    @cached_property
    def _shown(self) -> np.ndarray[Any, Any]:
        return np.flatnonzero((self._files["references"] >= 0).any((1, 2)))

    def _features(self, field: str, numbers: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        if field not in self._files:
            return torch.zeros(*numbers.shape, 0)
        return torch.from_numpy(self._files[field][numbers.clamp(min=0).numpy()].astype(np.float32))
