"""The CLIP of the tiny model: open_clip's CLIP and ClipLoss, with three helpers that make a small one bind words.

The UNet reads a state per token, so the state at a noun must know the noun's own colour and pattern. Contrast with
altered captions (NegCLIP, arXiv 2210.01936) and linear probes at the nouns ask for that; contrast between portraits
(as SLIP, arXiv 2112.12750, adds a picture-only task) makes the image tower tell subjects apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip import ClipLoss
from open_clip.model import CLIP
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from .loop import LoopRecipe, Task
from .pictures import Pictures


class ClipRecipe(BaseModel):
    """Recipe of the stage ``clip``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path = Field(description="open_clip model config (JSON), relative to the recipe")
    altered: float = Field(
        1.0, ge=0, description="weight of picking the caption among itself and its altered form"
    )
    probe: float = Field(
        0.3, ge=0, description="weight of reading noun, colour and pattern from the state at each noun"
    )
    subjects: float = Field(0.3, ge=0, description="weight of the contrast between portraits of subjects")
    pairs: int = Field(24, ge=0, description="subjects a step, two portraits each")
    loop: LoopRecipe


def create(config: Path) -> CLIP:
    """An untrained open_clip CLIP from its JSON config."""
    model_cfg: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]
    return CLIP(**model_cfg)


def text_states(clip: CLIP, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
    """Final states (after ``ln_final``) of the text tower at the first ``l`` positions.

    Attention is causal, so leaving out the padding at the end changes nothing at the positions kept.
    """
    length = tokens.shape[1]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    states: Tensor = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    return states


def text_features(
    clip: CLIP, tokens: Int[Tensor, "b l"], states: Float[Tensor, "b l d"]
) -> Float[Tensor, "b e"]:
    """Normalised, projected state at the first <|endoftext|>, which is the largest token id."""
    end = (tokens == clip.vocab_size - 1).int().argmax(dim=1)
    pooled = states[torch.arange(len(states), device=states.device), end]
    return F.normalize(pooled @ clip.text_projection, dim=-1)


class ClipWithProbes(nn.Module):
    """CLIP and the heads that only training needs."""

    def __init__(self, clip: CLIP, *words: int) -> None:
        super().__init__()
        self.clip = clip
        width, embed = clip.ln_final.weight.shape[0], clip.text_projection.shape[1]
        self.probes = nn.ParameterList(torch.randn(count, width) for count in words)
        self.subject = nn.Linear(embed, embed)

    def probe(self, states: Float[Tensor, "n d"], kind: int) -> Float[Tensor, "n k"]:
        """Scores of the words of a kind, by its place among the kinds.

        Unit rows: a word counts by how far it moves the state, not by how finely a large weight can tell it.
        With free weights colour and pattern took the state over and the noun kept 4 % of its variance.
        """
        return states @ F.normalize(self.probes[kind], dim=-1).T


class ClipTask(Task):
    """Contrast of pictures in [-1, 1] with their captions; ``kinds`` of words, by number, are read at the nouns."""

    def __init__(
        self, recipe: ClipRecipe, folder: Path, pictures: Pictures, kinds: Mapping[str, int]
    ) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.pictures, self.kinds = recipe, pictures, tuple(kinds)
        self.model: ClipWithProbes = ClipWithProbes(create(folder / recipe.model), *kinds.values())
        self.contrast = ClipLoss()

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        recipe, model = self.recipe, self.model
        clip, n = model.clip, recipe.loop.batch_size
        batch = self.pictures.captions(rng, n)
        pairs = self.pictures.portrait_pairs(rng, recipe.pairs)
        images = torch.cat([self.pictures.at(batch.index), pairs[:, 0], pairs[:, 1]]).to(device)
        tokens = torch.cat([batch.tokens, batch.negatives])
        length = min(tokens.shape[1], int((tokens != clip.vocab_size - 1).sum(1).max()) + 1)
        tokens = tokens[:, :length].to(device)

        projected = clip.encode_image(images)
        image, first, second = torch.split(F.normalize(projected, dim=-1), [n, recipe.pairs, recipe.pairs])
        states = text_states(clip, tokens)
        text, wrong = torch.split(text_features(clip, tokens, states), n)
        scale = clip.logit_scale.exp().clamp(max=100)
        contrast = self.contrast(image, text, scale)

        choice = scale * torch.stack([(image * text).sum(-1), (image * wrong).sum(-1)], dim=1)
        differs = (tokens[:n] != tokens[n:]).any(1)
        same = torch.zeros(n, dtype=torch.long, device=device)
        altered = F.cross_entropy(choice, same.masked_fill(~differs, -100), ignore_index=-100)

        nouns = batch.nouns.to(device)
        here = states[:n].gather(1, nouns.clamp(0, length - 1)[..., None].expand(-1, -1, states.shape[-1]))
        labels = batch.labels.to(device).masked_fill(((nouns < 0) | (nouns >= length))[..., None], -100)
        labels = labels.masked_fill(labels < 0, -100)
        scores = [model.probe(here.flatten(0, 1), kind) for kind in range(len(self.kinds))]
        words = labels.flatten(0, 1).unbind(1)
        probe = sum(F.cross_entropy(*pair) for pair in zip(scores, words, strict=True))
        read = {
            f"{kind}_accuracy": (score.argmax(1) == word)[word >= 0].float().mean()
            for kind, score, word in zip(self.kinds, scores, words, strict=True)
        }

        one, other = (F.normalize(model.subject(x), dim=-1) for x in (first, second))
        subjects = self.contrast(one, other, scale)
        loss = contrast + recipe.altered * altered + recipe.probe * probe + recipe.subjects * subjects
        return {
            "loss": loss,
            "contrast": contrast,
            "altered": altered,
            "probe": probe,
            "subjects": subjects,
            "accuracy": (image @ text.T).argmax(1).eq(torch.arange(n, device=device)).float().mean(),
            "altered_accuracy": (choice[:, 0] > choice[:, 1])[differs].float().mean(),
            **read,
            "subject_accuracy": (one @ other.T)
            .argmax(1)
            .eq(torch.arange(len(one), device=device))
            .float()
            .mean(),
        }
