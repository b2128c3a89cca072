"""Training of the networks: ``python -m weft.zoo.judge detector|identity|segmenter --out runs/judge``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Final, final

import torch
import yaml
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..training.loop import LoopRecipe, Task, Trainer, averaged
from ..world import TRAIN_SUBJECTS
from .model import HERE, detector, export, segmenter
from .networks import CELLS, CONTEXT, Detector, Embedder, Maps, Segmenter, cut
from .pictures import Labelled, Scenes, Views, distort, in_parallel, labelled, scenes, views


class Recipe(BaseModel):
    """A recipe file of the judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(gt=0, description="pictures of the train split; identity: train subjects")
    views: int = Field(12, ge=4, description="identity: pictures of each subject, half of them portraits")
    subjects: float = Field(
        0.2,
        ge=0,
        le=1,
        description="detector, segmenter: share of objects that are one of the train subjects",
    )
    minutes: float = Field(gt=0, description="no step is begun after this time")
    loop: LoopRecipe


def recipe(name: str, folder: Path = HERE) -> Recipe:
    """The recipe of ``detector``, ``identity`` or ``segmenter`` in ``folder``."""
    return Recipe.model_validate(yaml.safe_load((folder / f"{name}.yaml").read_text()))


@final
class DetectorTask(Task):
    """Centre points with boxes and attributes, and the background, from distorted renders."""

    def __init__(self, data: Scenes, batch_size: int, network: Detector | None = None) -> None:
        self.model: nn.Module = (network or detector()).to(memory_format=torch.channels_last)
        self.data, self.batch_size = data, batch_size

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        which = torch.randint(len(self.data.images), (self.batch_size,), generator=rng)
        with torch.autocast("cpu", enabled=False):
            images = distort(self.data.images[which].float() / 255, rng)
        maps = self.model(images.to(device, memory_format=torch.channels_last))
        return detection_losses(
            maps,
            self.data.boxes[which].to(device),
            self.data.words[which].to(device),
            self.data.background[which].to(device),
        )


def detection_losses(
    maps: Maps, boxes: Float[Tensor, "b m 4"], words: Int[Tensor, "b m 3"], background: Int[Tensor, "b"]
) -> dict[str, Tensor]:
    """The penalty-reduced focal loss of CenterNet (arXiv 1904.07850, eq. 1) for the noun maps; around every
    centre, weighted with the same Gaussian, an L1 loss of the boxes and cross entropies of the attributes."""
    maps = Maps(*(getattr(maps, field.name).float() for field in fields(maps)))
    there = words[..., 0] >= 0  # b m
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 * CELLS  # b m 2
    size = ((boxes[..., 2:] - boxes[..., :2]) * CELLS).clamp_min(0.1)
    ticks = torch.arange(CELLS, device=boxes.device) + 0.5
    places = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    offset = centre[:, :, None, None] - places  # b m h w 2
    sigma = (size / 7).clamp_min(0.55)[:, :, None, None]
    bump = (-(offset / sigma).square().sum(-1) / 2).exp() * there[:, :, None, None]  # b m h w
    exact = (offset.abs() <= 0.5).all(-1) & there[:, :, None, None]
    nouns = words[..., 0].clamp_min(0)[:, :, None, None, None].expand(-1, -1, 1, CELLS, CELLS)
    target = torch.zeros_like(maps.nouns)
    target.scatter_reduce_(1, nouns.flatten(1, 2), bump.where(~exact, 1.0), "amax")
    is_centre = target == 1
    positive = F.logsigmoid(maps.nouns) * (1 - maps.nouns.sigmoid()).square()
    negative = F.logsigmoid(-maps.nouns) * maps.nouns.sigmoid().square() * (1 - target).pow(4)
    nouns_loss = -torch.where(is_centre, positive, negative).sum() / there.sum()

    weight, owner = bump.max(dim=1)  # b h w
    weight = weight * (weight > 0.3)

    def owned(values: Tensor) -> Tensor:
        return values.gather(1, owner.flatten(1)).view_as(owner)  # b h w

    wanted = torch.cat([offset, size.log()[:, :, None, None].expand_as(offset)], dim=-1)  # b m h w 4
    wanted = wanted.gather(1, owner[:, None, :, :, None].expand(-1, 1, -1, -1, 4))[:, 0].permute(0, 3, 1, 2)
    box_loss = ((maps.boxes - wanted).abs().sum(1) * weight).sum() / weight.sum()

    def attribute(logits: Tensor, labels: Tensor) -> Tensor:
        label = owned(labels)
        each = F.cross_entropy(logits, label, ignore_index=-1, reduction="none", label_smoothing=0.02)
        share = weight * (label >= 0)
        return (each * share).sum() / share.sum().clamp_min(1)

    parts = {
        "nouns": nouns_loss,
        "box": box_loss,
        "color": attribute(maps.colors, words[..., 1]),
        "pattern": attribute(maps.patterns, words[..., 2]),
        "background": F.cross_entropy(maps.background, background, label_smoothing=0.02),
    }
    scale = {"nouns": 1.0, "box": 1.0, "color": 1.0, "pattern": 0.7, "background": 0.5}
    return {"loss": sum((scale[k] * v for k, v in parts.items()), torch.zeros(())), **parts}


@final
class IdentityTask(Task):
    """Subjects as classes on the sphere: cosine softmax with a margin (CosFace, arXiv 1801.09414, eq. 4)."""

    scale, margin = 20.0, 0.2

    def __init__(self, data: Views, batch_size: int, classes: int = len(TRAIN_SUBJECTS)) -> None:
        self.model: nn.Module = _Classes(classes).to(memory_format=torch.channels_last)
        self.data, self.batch_size = data, batch_size

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        n = self.batch_size
        which = torch.randint(len(self.data.images), (n,), generator=rng)
        boxes = self.data.boxes[which]
        size = boxes[:, 2:] - boxes[:, :2]
        boxes = boxes + (torch.rand(n, 4, generator=rng) - 0.5) * 0.14 * size.repeat(1, 2)
        context = CONTEXT * (0.9 + 0.3 * torch.rand(n, generator=rng))
        with torch.autocast("cpu", enabled=False):
            crops = cut(distort(self.data.images[which].float() / 255, rng), boxes, context)
        cosine = self.model(crops.to(device, memory_format=torch.channels_last)).float()
        label = self.data.subject[which].to(device)
        margin = self.margin * F.one_hot(label, cosine.shape[1])
        loss = F.cross_entropy(self.scale * (cosine - margin), label)
        return {"loss": loss, "right": (cosine.argmax(1) == label).float().mean()}


@final
class _Classes(nn.Module):
    """Cosines between embeddings of crops and one direction per train subject."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedder = Embedder()
        self.directions = nn.Parameter(torch.randn(classes, self.embedder.out.out_features))

    def forward(self, crops: Float[Tensor, "n 3 48 48"]) -> Float[Tensor, "n classes"]:
        cosines: Tensor = self.embedder(crops) @ F.normalize(self.directions, dim=1).T
        return cosines


@final
class SegmenterTask(Task):
    """Cross entropy of every pixel's label, from distorted renders; the labels are those of the clean ones."""

    def __init__(self, data: Labelled, batch_size: int, network: Segmenter | None = None) -> None:
        self.model: nn.Module = (network or segmenter()).to(memory_format=torch.channels_last)
        self.data, self.batch_size = data, batch_size

    def losses(self, step: int, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        which = torch.randint(len(self.data.images), (self.batch_size,), generator=rng)
        with torch.autocast("cpu", enabled=False):
            images = distort(self.data.images[which].float() / 255, rng)
        logits = self.model(images.to(device, memory_format=torch.channels_last)).float()
        wanted = self.data.labels[which].to(device).long()
        right = (logits.argmax(1) == wanted).float()
        return {
            "loss": F.cross_entropy(logits, wanted),
            "right": right.mean(),
            "found": right[wanted > 0].mean(),
        }


def detector_task(recipe: Recipe) -> DetectorTask:
    """The detector on freshly rendered pictures of the train split."""
    make = partial(scenes, split="train", subjects=recipe.subjects)
    parts = in_parallel(make, range(recipe.pictures), torch.get_num_threads())
    columns = (
        torch.cat([getattr(part, f) for part in parts]) for f in ("images", "boxes", "words", "background")
    )
    return DetectorTask(Scenes(*columns), recipe.loop.batch_size)


def identity_task(recipe: Recipe) -> IdentityTask:
    """The embedder on freshly rendered views of train subjects."""
    numbers, half = TRAIN_SUBJECTS[: recipe.pictures], recipe.views // 2
    makers = (
        partial(views, seeds=range(half), portraits=True),
        partial(views, seeds=range(half, recipe.views), portraits=False),
    )
    parts = [part for make in makers for part in in_parallel(make, numbers, torch.get_num_threads())]
    columns = (torch.cat([getattr(part, f) for part in parts]) for f in ("images", "boxes", "subject"))
    return IdentityTask(Views(*columns), recipe.loop.batch_size)


def segmenter_task(recipe: Recipe) -> SegmenterTask:
    """The segmenter on freshly rendered pictures of the train split."""
    make = partial(labelled, split="train", subjects=recipe.subjects)
    parts = in_parallel(make, range(recipe.pictures), torch.get_num_threads())
    columns = (torch.cat([getattr(part, f) for part in parts]) for f in ("images", "labels"))
    return SegmenterTask(Labelled(*columns), recipe.loop.batch_size)


TASKS: Final[dict[str, Callable[[Recipe], Task]]] = {
    "detector": detector_task,
    "identity": identity_task,
    "segmenter": segmenter_task,
}


def train(name: str, out: Path) -> None:
    """Train one of ``TASKS`` by its recipe, resuming what ``out`` holds, and export the averaged
    weights to ``out``/name.safetensors."""
    plan = recipe(name)
    begun = time.monotonic()
    torch.manual_seed(plan.loop.seed)
    task = TASKS[name](plan)
    trainer = Trainer(task, plan.loop, out / name)
    trainer.resume()
    count = sum(p.numel() for p in task.model.parameters())
    print(
        f"{name}: {count} parameters, rendered in {time.monotonic() - begun:.0f} s, step {trainer.step}",
        flush=True,
    )
    while trainer.step < plan.loop.steps and time.monotonic() - begun < plan.minutes * 60:
        until = min(trainer.step + 200, plan.loop.steps)
        trainer.run(until)
        if trainer.step < until:
            return
        print(f"step {trainer.step}, {time.monotonic() - begun:.0f} s", flush=True)
    task.model.load_state_dict(averaged(out / name), strict=False)
    network = task.model.embedder if isinstance(task.model, _Classes) else task.model
    export(network, out / f"{name}.safetensors")
