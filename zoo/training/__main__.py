"""``python -m weft.zoo.training STAGE --recipe FILE --out DIR``: run one stage; stages find each other's output in DIR.

``DIR`` gets tokenizer/, pictures/, vae/, clip/, latents/ and unet/. A stage that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, TypeVar

if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parents[2]:
    # `python -m` puts the working directory first; from the repository root that would hide the package "kernels".
    del sys.path[0]

import torch
import yaml
from diffusers import AutoencoderKL
from open_clip.model import CLIP
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from torch import Tensor, nn

from . import clip, export, image_tower, latents, pictures, tokenizer, unet, vae
from .loop import LoopRecipe, Task, Trainer, averaged, slim

R = TypeVar("R", bound=BaseModel)
STAGES = (
    "tokenizer", "pictures", "vae", "clip", "image_tower", "latents", "unet", "export", "curves", "pack", "unpack"
)  # fmt: skip


class TokenizerRecipe(BaseModel):
    """Recipe of the stage ``tokenizer``: the world's words are read off the captions of so many pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = 3000


class Recipes(BaseModel):
    """Recipe of a whole run: the recipe files of its stages, relative to this file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokenizer: Path
    pictures: Path
    vae: Path
    clip: Path
    image_tower: Path
    latents: Path
    unet: Path
    export: Path


def read(kind: type[R], path: Path) -> R:
    """The recipe in the YAML file ``path``."""
    data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    return kind.model_validate(data or {})


class Run:
    """One run: its recipes and its folder."""

    def __init__(self, recipe: Path, out: Path, steps: int | None = None) -> None:
        self.folder, self.out, self.steps = recipe.parent, out, steps
        self.recipes = read(Recipes, recipe)

    def recipe(self, kind: type[R], stage: str) -> R:
        """The recipe of ``stage``; under torchrun each process takes its share of the batch."""
        found = read(kind, self.folder / getattr(self.recipes, stage))
        plan, processes = getattr(found, "loop", None), int(os.environ.get("WORLD_SIZE", "1"))
        if not isinstance(plan, LoopRecipe) or processes == 1:
            return found
        share = plan.model_copy(update={"batch_size": plan.batch_size // processes})
        return found.model_copy(update={"loop": share})

    def train(self, task: Task, plan: LoopRecipe, stage: str) -> None:
        """Train to the planned steps, from the stage's checkpoint if there is one."""
        plan = plan if self.steps is None else plan.model_copy(update={"steps": self.steps})
        trainer = Trainer(task, plan, self.out / stage)
        trainer.resume()
        trainer.run()

    def shipped(self) -> Path:
        """The exported folder: what it holds stands in for the stages that this run has not trained."""
        return self.recipe(export.ExportRecipe, "export").folder

    def tokenizer(self) -> Path:
        here = self.out / "tokenizer"
        return here if here.exists() else self.shipped() / "tokenizer"

    def pictures(self) -> pictures.Pictures:
        return pictures.Pictures(self.out / "pictures")

    def clip_config(self) -> Path:
        return self.folder / self.recipe(clip.ClipRecipe, "clip").model

    def clip(self) -> CLIP:
        """The trained CLIP, frozen; the heads that helped to train it are left behind."""
        model = clip.create(self.clip_config())
        if (self.out / "clip" / "checkpoint.pt").exists():
            model.load_state_dict(_within(averaged(self.out / "clip"), "clip."))
        else:
            model.load_state_dict(load_file(self.shipped() / "open_clip" / "open_clip_model.safetensors"))
        if (self.out / "image_tower" / "checkpoint.pt").exists():
            model.visual.load_state_dict(_within(averaged(self.out / "image_tower"), "visual."))
        return frozen(model)

    def vae(self) -> AutoencoderKL:
        """The trained autoencoder, frozen."""
        if not (self.out / "vae" / "checkpoint.pt").exists():
            return frozen(AutoencoderKL.from_pretrained(self.shipped() / "vae"))
        return latents.load_vae(self.recipe(vae.VaeRecipe, "vae"), self.out / "vae")

    def scaling_factor(self) -> float:
        facts = json.loads((self.out / "latents" / "latents.json").read_text(encoding="utf-8"))
        return float(facts["scaling_factor"])

    def tokenizer_stage(self) -> None:
        words = tokenizer.words(self.recipe(TokenizerRecipe, "tokenizer").pictures)
        tokenizer.build(words, self.out / "tokenizer")

    def pictures_stage(self) -> None:
        recipe = self.recipe(pictures.PicturesRecipe, "pictures")
        pictures.build(recipe, self.tokenizer(), self.out / "pictures")

    def vae_stage(self) -> None:
        recipe = self.recipe(vae.VaeRecipe, "vae")
        self.train(vae.VaeTask(recipe, self.pictures()), recipe.loop, "vae")

    def clip_stage(self) -> None:
        recipe = self.recipe(clip.ClipRecipe, "clip")
        self.train(clip.ClipTask(recipe, self.folder, self.pictures(), pictures.KINDS), recipe.loop, "clip")

    def image_tower_stage(self) -> None:
        recipe = self.recipe(image_tower.ImageTowerRecipe, "image_tower")
        task = image_tower.ImageTowerTask(recipe, self.clip(), self.pictures())
        self.train(task, recipe.loop, "image_tower")

    def latents_stage(self) -> None:
        recipe = self.recipe(latents.LatentsRecipe, "latents")
        latents.build(recipe, self.vae(), self.pictures(), self.out / "latents")

    def unet_task(self) -> tuple[unet.UNetTask, LoopRecipe]:
        recipe = self.recipe(unet.UNetRecipe, "unet")
        words, file = tokenizer.load(self.tokenizer()), self.out / "latents" / "latents.npy"
        factor = self.scaling_factor()
        return unet.UNetTask(
            recipe, self.pictures(), file, self.clip(), words, self.vae(), factor
        ), recipe.loop

    def unet_stage(self) -> None:
        task, plan = self.unet_task()
        self.train(task, plan, "unet")

    def export_stage(self) -> None:
        """Write the folder; a UNet that has not been trained yet is written as it starts."""
        model = unet.create(self.recipe(unet.UNetRecipe, "unet"))
        if (self.out / "unet" / "checkpoint.pt").exists():
            model.load_state_dict(averaged(self.out / "unet"))
        recipe = self.recipe(export.ExportRecipe, "export")
        parts = (self.clip(), self.clip_config(), self.vae(), model, self.scaling_factor())
        export.build(recipe, self.tokenizer(), *parts)

    def pack_stage(self) -> None:
        """Copy what a later run needs to go on, checkpoints cut down, into the folder beside the exported one."""
        for checkpoint in sorted(self.out.glob("*/checkpoint.pt")):
            folder = self.packed() / checkpoint.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            torch.save(slim(state) if "model" in state else state, folder / "checkpoint.pt")
            for lines in checkpoint.parent.glob("*.jsonl"):
                shutil.copy(lines, folder)

    def unpack_stage(self) -> None:
        """Copy packed checkpoints into the run; a stage that has its own keeps it."""
        for checkpoint in sorted(self.packed().glob("*/checkpoint.pt")):
            if not (self.out / checkpoint.parent.name / "checkpoint.pt").exists():
                shutil.copytree(checkpoint.parent, self.out / checkpoint.parent.name, dirs_exist_ok=True)

    def packed(self) -> Path:
        return self.shipped().with_name(self.shipped().name + "_checkpoints")

    def curves_stage(self) -> None:
        """Draw the curves into the exported folder (needs matplotlib, the extra ``train``)."""
        from . import curves

        folder = self.recipe(export.ExportRecipe, "export").folder
        curves.draw(self.out, folder / "curves.png")


def _within(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


M = TypeVar("M", bound=nn.Module)


def frozen(module: M) -> M:
    """``module`` in evaluation mode, without gradients."""
    return module.eval().requires_grad_(False)


def main(arguments: list[str] | None = None, run: type[Run] = Run) -> None:
    """Parse the command line and run the stage."""
    parser = argparse.ArgumentParser("python -m weft.zoo.training", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--recipe", type=Path, required=True, help="YAML file of the run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, help="plan so many steps instead of the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    getattr(run(options.recipe, options.out, options.steps), f"{options.stage}_stage")()


if __name__ == "__main__":
    main()
