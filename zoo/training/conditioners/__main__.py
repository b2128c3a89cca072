"""``python -m weft.zoo.training.conditioners COMMAND RECIPE --out DIR``: train conditioners over a frozen model.

``prepare`` computes what is frozen (latents, tokens, features) into DIR/data, ``train`` learns (a run that was stopped
goes on where it was), ``export`` writes one file of weights a conditioner. Under torchrun or accelerate every process
takes its share of the batch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parents[3]:
    # `python -m` puts the working directory first; from the repository root that would hide the package "kernels".
    del sys.path[0]

import torch
import yaml

from ....core.errors import UserError
from ....core.load import load
from ....core.pipeline import Pipeline
from ...models import SUMS
from ..export import write_hashes
from ..loop import Trainer, averaged
from .data import Examples, build
from .preview import write
from .recipe import ConditionersRecipe

if TYPE_CHECKING:
    from .task import ConditionersTask


def read(path: Path, steps: int | None) -> ConditionersRecipe:
    """The recipe in a YAML file; each of several processes takes its share of the batch."""
    data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = ConditionersRecipe.model_validate(data)
    loop = recipe.loop if steps is None else recipe.loop.model_copy(update={"steps": steps})
    loop = loop.model_copy(update={"batch_size": loop.batch_size // int(os.environ.get("WORLD_SIZE", "1"))})
    return recipe.model_copy(update={"loop": loop})


def prepare(recipe: ConditionersRecipe, out: Path) -> None:
    """Write DIR/data; it appears when it is whole.

    Raises:
        UserError: the recipe names no data, or two kinds of it.
    """
    sources = [source for source in (recipe.world, recipe.folder) if source is not None]
    if len(sources) != 1:
        raise UserError("recipe", "one of the sections 'world' and 'folder'", f"{len(sources)} of them")
    new = out / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    encoder = {"weights": recipe.image_encoder, "architecture": recipe.architecture}
    count = None if recipe.world is None else recipe.world.pictures
    done = build(sources[0].records(), count, pipeline(recipe), encoder, new)
    shutil.rmtree(out / "data", ignore_errors=True)
    new.replace(out / "data")
    print(f"{done} pictures in {out / 'data'}")


def pipeline(recipe: ConditionersRecipe) -> Pipeline:
    """The frozen model, in float32; under accelerate, on this process's device."""
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    return load(recipe.model, device=device, dtype=torch.float32)


def task(recipe: ConditionersRecipe, out: Path) -> ConditionersTask:
    """The task over what ``prepare`` wrote.

    Raises:
        UserError: ``prepare`` has not run.
    """
    if not (out / "data" / "latents.npy").is_file():
        raise UserError(f"folder '{out}'", "data written by the command 'prepare'", "none")
    from .task import ConditionersTask

    return ConditionersTask(recipe, pipeline(recipe), Examples(out / "data"))


def train(recipe: ConditionersRecipe, out: Path) -> None:
    """Train to the planned steps, from the checkpoint if there is one."""
    trainer = Trainer(task(recipe, out), recipe.loop, out)
    trainer.resume()
    trainer.run()


def export(recipe: ConditionersRecipe, out: Path, folder: Path) -> None:
    """Write the averaged weights of every conditioner that learned, in float16, as ``folder``/NAME.safetensors.

    Where the folder above pins its files in SHA256SUMS, as a model of the zoo does, the digests are made anew.
    """
    trained = task(recipe, out)
    trained.model.load_state_dict(averaged(out), strict=False)
    for name, part in trained.parts.items():
        if name not in recipe.frozen:
            write(part.networks, folder / f"{name}.safetensors", torch.float16)
    if (folder.parent / SUMS).is_file():
        write_hashes(folder.parent)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser("python -m weft.zoo.training.conditioners", description=__doc__)
    parser.add_argument("command", choices=("prepare", "train", "export"))
    parser.add_argument("recipe", type=Path, help="YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--folder", type=Path, help="where export writes: MODEL/weft by default")
    parser.add_argument("--steps", type=int, help="plan so many steps instead of the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = read(options.recipe, options.steps)
    try:
        if options.command == "prepare":
            prepare(recipe, options.out)
        elif options.command == "train":
            train(recipe, options.out)
        else:
            model = pipeline(recipe).folder
            if options.folder is None and model is None:
                raise UserError("option '--folder'", "where to write", "none; the model is a single file")
            export(recipe, options.out, options.folder or Path(str(model)) / "weft")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
