"""Pseudo words: what `pseudo_word` and `fusion_text` share, from reference images to vectors in a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from weft.plugin import (
    ImageTower,
    LowRank,
    PromptTokens,
    Scene,
    Subject,
    WeightDelta,
    open_image,
)

from .subject_images import noun_span, shown_subjects

EMBEDDING_STD = 0.02
"""CLIP's token embeddings start at this standard deviation (open_clip, `CLIP.init_parameters`)."""


class WordNetwork(nn.Module):
    """From the pooled feature of an image to a vector among the token embeddings.

    LayerNorm, Linear, GELU, Linear, without a residual: the released code of Subject-Diffusion (arXiv 2307.11410).
    UMM-Diffusion (arXiv 2303.09319) says "MLP" only.

    Args:
        image_width: channels of the pooled feature.
        hidden: between the two linear layers.
        text_width: channels of a token embedding.
    """

    def __init__(self, image_width: int, hidden: int, text_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(image_width)
        self.hidden = nn.Linear(image_width, hidden)
        self.output = nn.Linear(hidden, text_width)
        # an untrained word is a small one: the text transformer has never read one of norm 10
        nn.init.normal_(self.output.weight, std=EMBEDDING_STD / hidden**0.5)
        nn.init.zeros_(self.output.bias)

    @classmethod
    def like(
        cls, tensors: Mapping[str, Tensor], prefix: str, image_width: int, text_width: int
    ) -> WordNetwork:
        """A network whose hidden width is that of the tensors; their values are not read."""
        weight = tensors.get(f"{prefix}hidden.weight")
        return cls(image_width, text_width if weight is None or not weight.ndim else len(weight), text_width)

    def forward(
        self, pooled: Float[Tensor, "b s k e"], known: Bool[Tensor, "b s k"]
    ) -> Float[Tensor, "b s d"]:
        """One word a subject: the mean over those of its k images that are known; zeros where none is.

        Args:
            pooled: features; what stands where an image is not known is not read.
            known: which images there are.
        """
        pooled = pooled.masked_fill(~known[..., None], 0.0).to(self.norm.weight)
        words: Tensor = self.output(F.gelu(self.hidden(self.norm(pooled))))  # b s k d
        weight = known.to(words)
        weight = weight / weight.sum(dim=-1, keepdim=True).clamp_min(1.0)
        return torch.einsum("bskd,bsk->bsd", words, weight)


class WordNetworks(nn.Module):
    """What `pseudo_word` and `fusion_text` both train.

    Args:
        word: makes the words.
        unet: low-rank deltas of the UNet; they may be of no layer.
    """

    def __init__(self, word: WordNetwork, unet: LowRank) -> None:
        super().__init__()
        self.word, self.unet = word, unet

    def words(self, pooled: Float[Tensor, "b s k e"], known: Bool[Tensor, "b s k"]) -> Float[Tensor, "b s d"]:
        """One word a subject; see `WordNetwork.forward`."""
        words: Tensor = self.word(pooled, known)
        return words

    def deltas(self) -> tuple[WeightDelta, ...]:
        """The UNet's deltas; gradients reach the parameters."""
        return self.unet.deltas()


def write_words(
    table: Float[Tensor, "b t d"],
    words: Float[Tensor, "b s d"],
    places: Bool[Tensor, "b s t"],
    keep: Float[Tensor, ""] | float = 0.0,
) -> Float[Tensor, "b t d"]:
    """Token embeddings with every subject's word at each of its places, and ``keep`` times what stood there.

    No two subjects may share a place.
    """
    written = torch.einsum("bsd,bst->btd", words.to(table), places.to(table)) + keep * table
    return torch.where(places.any(dim=1)[..., None], written.to(table), table)


def unify(
    plain: Float[Tensor, "b t d"], rearranged: Float[Tensor, "b t d"], places: Bool[Tensor, "b s t"]
) -> Float[Tensor, "b t d"]:
    """h_u: the plain prompt's states, with the rearranged ones at the subjects' places only."""
    return torch.where(places.any(dim=1)[..., None], rearranged.to(plain), plain)


@dataclass(frozen=True)
class References:
    """The subjects of a scene that have images, and what the image tower sees in these.

    Args:
        subjects: in the scene's order.
        pooled: features, for as many images as any subject has.
        known: which images there are.
    """

    subjects: tuple[Subject, ...]
    pooled: Float[Tensor, "s k e"]
    known: Bool[Tensor, "s k"]


def read_references(scene: Scene, tower: ImageTower, plugin: str) -> References:
    """Open every reference image of a scene and look at it.

    Raises:
        UserError: no subject has an image, or one cannot be opened; it names the subject.
    """
    subjects = shown_subjects(scene, plugin)
    most = max(len(subject.images) for subject in subjects)
    pooled, known = [], torch.zeros(len(subjects), most, dtype=torch.bool)
    for number, subject in enumerate(subjects):
        features = tower(tower.pixels(_opened(subject))).pooled  # k e
        pooled.append(F.pad(features, (0, 0, 0, most - len(features))))
        known[number, : len(features)] = True
    stacked = torch.stack(pooled)
    return References(subjects, stacked, known.to(stacked.device))


def noun_positions(text: PromptTokens, subjects: Sequence[Subject]) -> dict[int, tuple[int, ...]]:
    """Token positions of the nouns of those subjects that a prompt holds, by the subjects' numbers.

    Raises:
        UserError: the tokenizer cuts a subject off.
    """
    return {
        number: text.within(*noun_span(text.text, subject))
        for number, subject in enumerate(subjects)
        if text.positions(subject) is not None
    }


def places_of(positions: Mapping[int, Sequence[int]], subjects: int, tokens: int) -> Bool[Tensor, "s t"]:
    """Token positions by subject as a mask."""
    places = torch.zeros(subjects, tokens, dtype=torch.bool)
    for number, taken in positions.items():
        places[number, list(taken)] = True
    return places


def _opened(subject: Subject) -> list[Image.Image]:
    many = len(subject.images)
    return [
        open_image(
            source,
            f"subject '{subject.phrase}', field 'images'" + (f" ({number} of {many})" if many > 1 else ""),
        )
        for number, source in enumerate(subject.images, start=1)
    ]
