"""The image tower of CLIP, trained on against its frozen text tower until it sees what words cannot say.

A reference picture must tell a conditioner all of a subject, so the features are asked for every part of its look:
the word, the artwork, what it wears, and the colours drawn for it alone.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from open_clip import ClipLoss
from open_clip.model import CLIP
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ...training.clip import text_features, text_states
from ...training.loop import LoopRecipe, Task
from ...training.pictures import Pictures, pixels
from ..scenes import portrait
from ..subjects import TRAIN_SUBJECTS, subject
from ..vocabulary import ACCESSORIES, artworks
from .rendered import WORDS

ARTWORKS = tuple(artworks())
WORN = ("nothing", *(name for names in ACCESSORIES.values() for name in names))
PARTS = {"word": len(WORDS), "artwork": len(ARTWORKS), "accessory": len(WORN)}
COLORS = 6
"""Red, green and blue of the body and of the accessory."""


class ImageTowerRecipe(BaseModel):
    """Recipe of the stage ``image_tower``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    portraits: int = Field(48, gt=0, description="subjects a step and process, two portraits each")
    looks: float = Field(1.0, ge=0, description="weight of reading word, artwork, accessory and colours")
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
        self.classes = nn.ModuleList(nn.Linear(width, count) for count in PARTS.values())
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
        seeds = torch.randint(2**31, (recipe.portraits, 2), generator=rng).tolist()
        numbers = [TRAIN_SUBJECTS[i] for i in chosen]
        shown = [portrait(i, k).image() for i, pair in zip(numbers, seeds, strict=True) for k in pair]
        images = torch.cat([self.pictures.at(batch.index), pixels(np.stack(shown))])
        features = model.visual(images.to(device))
        scenes, looks = features[: len(batch.index)], features[len(batch.index) :]
        contrast = self.contrast(F.normalize(scenes, dim=-1), texts, self.clip.logit_scale.exp())
        read = F.layer_norm(looks, looks.shape[-1:])
        classes, colors = looks_of(numbers)
        classes = classes.repeat_interleave(2, 0).to(device)
        colors = colors.repeat_interleave(2, 0).to(device)
        guesses = [head(read) for head in model.classes]
        words = sum(
            (F.cross_entropy(g, classes[:, i]) for i, g in enumerate(guesses)), start=looks.new_zeros(())
        )
        told = ~colors.isnan()
        hues = (model.colors(read) - colors)[told].square().mean()
        pairs = rearrange(F.normalize(model.subject(read), dim=-1), "(n view) d -> view n d", view=2)
        target = torch.arange(pairs.shape[1], device=device)
        alike = F.cross_entropy(pairs[0] @ pairs[1].T * 15, target)
        loss = contrast + recipe.looks * (words + recipe.colors * hues) + recipe.subjects * alike
        right = {
            f"{name}_accuracy": (g.argmax(1) == classes[:, i]).float().mean()
            for i, (name, g) in enumerate(zip(PARTS, guesses, strict=True))
        }
        return {"loss": loss, "contrast": contrast, "colors": hues, "subjects": alike, **right}


def looks_of(numbers: list[int]) -> tuple[Int[Tensor, "n 3"], Float[Tensor, "n 6"]]:
    """Word, artwork and accessory of subjects by their places in the lists above, and their colours in [0, 1].

    A colour that is the artwork's own is not a number (NaN): nothing is asked of it.
    """
    looks = [subject(number) for number in numbers]
    classes = [
        [
            WORDS.index(look.noun),
            ARTWORKS.index(look.art),
            WORN.index("nothing" if look.accessory is None else look.accessory[1]),
        ]
        for look in looks
    ]
    unknown = (float("nan"),) * 3
    colors = torch.tensor([[look.tint or unknown, look.accessory_tint or unknown] for look in looks])
    return torch.tensor(classes), rearrange(colors / 255, "n part channel -> n (part channel)")
