"""The image tower of the tiny CLIP, trained on against its frozen text tower until it sees what words cannot say.

Contrast between portraits alone had taught it palettes: a linear probe read the noun of a third of held-out portraits
from its pooled features (benchmarks/results/image_tower.md, "before").
A reference picture must tell a conditioner all of a subject, so the features are asked for every part of its look.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from open_clip import ClipLoss
from open_clip.model import CLIP
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ..world import NOUNS, TRAIN_SUBJECTS, portrait, subject
from ..world.patterns import EMBLEMS, TRIMS
from .clip import text_features, text_states
from .loop import LoopRecipe, Task
from .pictures import Pictures, pixels

KINDS = tuple(dict.fromkeys(("toy", *NOUNS)))
COLORS = 12
"""Body, second, outline and emblem, red, green and blue of each."""


class ImageTowerRecipe(BaseModel):
    """Recipe of the stage ``image_tower``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    portraits: int = Field(48, gt=0, description="subjects a step and process, two portraits each")
    looks: float = Field(
        1.0, ge=0, description="weight of reading noun, emblem, trim and colours of a portrait"
    )
    colors: float = Field(
        10.0, ge=0, description="how much more the error of the colours, in [0, 1], weighs in it"
    )
    subjects: float = Field(0.3, ge=0, description="weight of the contrast between portraits of subjects")
    loop: LoopRecipe


class TowerWithProbes(nn.Module):
    """An image tower and the heads that only training needs."""

    def __init__(self, visual: nn.Module, width: int) -> None:
        super().__init__()
        self.visual = visual
        self.classes = nn.ModuleList(nn.Linear(width, len(names)) for names in (KINDS, EMBLEMS, TRIMS))
        self.colors = nn.Linear(width, COLORS)
        self.subject = nn.Linear(width, width)


class ImageTowerTask(Task):
    """Pictures find their captions, portraits their other portraits, and heads read every part of a look."""

    def __init__(self, recipe: ImageTowerRecipe, clip: CLIP, pictures: Pictures) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.clip, self.pictures = recipe, clip, pictures
        visual = clip.visual.requires_grad_(True)
        self.model: TowerWithProbes = TowerWithProbes(visual, clip.text_projection.shape[1])
        self.contrast = ClipLoss()

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        recipe, model = self.recipe, self.model
        batch = self.pictures.captions(rng, recipe.loop.batch_size)
        with torch.no_grad():
            states = text_states(self.clip.to(device), batch.tokens.to(device))
            texts = text_features(self.clip, batch.tokens.to(device), states)
        chosen = torch.randint(len(TRAIN_SUBJECTS), (recipe.portraits,), generator=rng).tolist()
        seeds = torch.randint(1000, (recipe.portraits, 2), generator=rng).tolist()
        shown = [
            portrait(TRAIN_SUBJECTS[i], k).image(64)
            for i, pair in zip(chosen, seeds, strict=True)
            for k in pair
        ]
        portraits = torch.cat([pixels(image[None]) for image in shown])
        features = model.visual(torch.cat([self.pictures.at(batch.index), portraits]).to(device))
        scenes, looks = features[: len(batch.index)], features[len(batch.index) :]
        contrast = self.contrast(F.normalize(scenes, dim=-1), texts, self.clip.logit_scale.exp())
        read = F.layer_norm(looks, looks.shape[-1:])
        classes, colors = looks_of([TRAIN_SUBJECTS[i] for i in chosen])
        classes, colors = (
            classes.repeat_interleave(2, 0).to(device),
            colors.repeat_interleave(2, 0).to(device),
        )
        guesses = [head(read) for head in model.classes]
        words = sum(
            (F.cross_entropy(g, classes[:, i]) for i, g in enumerate(guesses)), start=looks.new_zeros(())
        )
        hues = (model.colors(read) - colors).square().mean()
        pairs = rearrange(F.normalize(model.subject(read), dim=-1), "(n view) d -> view n d", view=2)
        target = torch.arange(pairs.shape[1], device=device)
        alike = F.cross_entropy(pairs[0] @ pairs[1].T * 15, target)
        loss = contrast + recipe.looks * (words + recipe.colors * hues) + recipe.subjects * alike
        right = {
            f"{name}_accuracy": (g.argmax(1) == classes[:, i]).float().mean()
            for i, (name, g) in enumerate(zip(("noun", "emblem", "trim"), guesses, strict=True))
        }
        return {"loss": loss, "contrast": contrast, "colors": hues, "subjects": alike, **right}


def looks_of(numbers: list[int]) -> tuple[Int[Tensor, "n 3"], Float[Tensor, "n 12"]]:
    """Noun, emblem and trim of subjects by their places in the world's lists, and their colours in [0, 1]."""
    looks = [subject(number) for number in numbers]
    classes = [[KINDS.index(x.noun), EMBLEMS.index(x.emblem), TRIMS.index(x.trim)] for x in looks]
    colors = torch.tensor([[x.body, x.second, x.outline, x.emblem_color] for x in looks]).float() / 255
    return torch.tensor(classes), rearrange(colors, "n part channel -> n (part channel)")
