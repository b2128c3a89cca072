"""What the conditioners under training draw, through the same door as a user: a file of weights and `generate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ....core.api.conditioner import Conditioner
from ....core.api.registry import registry
from ....core.pipeline import Pipeline
from ....core.report.sheet import Row, sheet
from ....plugins.guidance.classifier_free import ClassifierFree
from ...world import sample
from .parts import Part
from .recipe import ConditionersRecipe
from .records import Record, world_record


def write(networks: nn.Module, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """The tensors of a conditioner's networks as its plugin reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".tmp")
    save_file(
        {k: v.detach().to("cpu", dtype).contiguous() for k, v in networks.state_dict().items()}, str(new)
    )
    new.replace(path)


def preview(recipe: ConditionersRecipe, pipe: Pipeline, parts: Mapping[str, Part]) -> Image.Image:
    """A row for each scene: its own image, its first reference, drawn without conditioners, drawn with all of them."""
    records = list(islice(_records(recipe), recipe.preview_pictures))
    scenes = [record.scenes[0] for record in records]
    options: dict[str, Any] = {
        "guidance": [ClassifierFree(7.5)],
        "steps": recipe.preview_steps,
        "seeds": [0],
        "attention": False,
    }
    with TemporaryDirectory() as folder:
        conditioners = []
        for name, part in parts.items():
            path = Path(folder) / f"{name}.safetensors"
            write(part.networks, path)
            fields: dict[str, Any] = {"weights": path}
            if part.needs_references and recipe.image_encoder is not None:
                fields |= {"image_encoder": recipe.image_encoder, "architecture": recipe.architecture}
            conditioner = registry().plugin(name, "conditioner")(**fields)
            assert isinstance(conditioner, Conditioner)
            conditioners.append(conditioner)
        without = pipe.generate(scenes, **options).images
        drawn = pipe.generate(scenes, conditioners=conditioners, **options).images
    rows = []
    for record, plain, picture in zip(records, without, drawn, strict=True):
        shown = [i for s in record.scenes[0].subjects for i in s.images][:1]
        opened = [image if isinstance(image, Image.Image) else Image.open(image) for image in shown]
        images = [record.picture, *(opened or [Image.new("RGB", plain.size)]), plain, picture]
        rows.append(Row(record.scenes[0].prompt, images, ["image", "reference", "without", "with"]))
    return sheet(rows)


def _records(recipe: ConditionersRecipe) -> Iterable[Record]:
    if recipe.world is None:
        assert recipe.folder is not None
        return recipe.folder.records()
    return (_held_out(number, recipe.world.size, recipe.world.portraits) for number in range(10_000))


def _held_out(number: int, size: int, portraits: int) -> Record:
    picture = sample(number, split="held_out", count=1 + number % 3, subjects=0.7)
    while all(thing.subject is None for thing in picture.objects):
        number += 10_000
        picture = sample(number, split="held_out", count=2, subjects=0.7)
    return world_record(picture, [picture.caption(0)], size, portraits)
