"""Run files: scenes, what conditions them, how they are sampled, and what is swept, in YAML. Free of torch.

`read_run_file` reports every mistake at once, each with its line. A valid file is a list of runs: one, or one for
every scene and every point of its sweep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..api.conditioner import Conditioner
from ..api.generation_settings import Reproducibility
from ..api.guidance import Guidance
from ..api.registry import ARGUMENTS, Registry, registry
from ..scene.record import record
from ..scene.scene import ImageSource, Scene, Subject
from .migrate import migrate
from .overrides import apply_overrides
from .scene_list import scene_trees
from .settings_tree import Tree
from .strict_yaml import Document, FileErrors, Problem, read_yaml
from .sweep import variants
from .validation import written

KINDS = {setting: kind for kind, setting in ARGUMENTS.items()}
MAX_SEEDS = 10_000
MAX_PICTURES = 100_000
MAX_TOLD = 100
"""Wrong settings after which the rest of a file is not read: every scene of a long list can have the same one."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(ge=8, le=4096)]


@record
class Sampler:
    """How a picture is sampled; what is not given is up to the model.

    Args:
        scheduler: how noise is taken away from step to step.
        steps: how many steps the scheduler takes; 20 to 50 are usual.
        width: in pixels, a multiple of the model's latent factor.
        height: likewise.
        batch_size: pictures that are drawn together; halved when memory runs out.
    """

    scheduler: Literal["ddim", "euler", "euler_ancestral", "dpmpp_2m", "pndm", "unipc"] = "ddim"
    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    width: Side | None = None
    height: Side | None = None
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None

    def options(self) -> dict[str, Any]:
        """The keyword arguments of `Pipeline.generate` that are given."""
        given = ((item.name, getattr(self, item.name)) for item in dataclasses.fields(self))
        return {name: value for name, value in given if value is not None}


@record
class SeedRange:
    """Seeds that follow each other.

    Args:
        count: how many pictures, one for each seed.
        first: the first seed; the others follow it.
    """

    count: Annotated[int, Field(ge=1, le=MAX_SEEDS)]
    first: Annotated[int, Field(ge=0, lt=2**62)] = 0


@record
class Settings:
    """The top level of a run file, before its plugins are looked up.

    Args:
        version: of this format.
        model: a name that `weft models` lists, a folder in diffusers layout, a .safetensors file, or a hub id.
        prompt: the whole description.
        negative_prompt: what the guidance strategies that have a negative_prompt read.
        subjects: phrases of the prompt with images, boxes or masks.
        maps: spatial maps by name.
        source: a picture to edit.
        edit_mask: the part of the source that may change.
        conditioners: how the scene's knowledge enters the model; names, or sections with parameters.
        guidance: the chain of strategies, in order; names, or sections with parameters.
        sampler: how a picture is sampled.
        reproducibility: exact gives the same bits whatever is drawn beside a picture.
        seeds: one picture each; a list, or a count and the first one.
        metrics: what is measured of every picture.
    """

    version: Literal[1]
    model: Annotated[str, Field(min_length=1)]
    prompt: str
    negative_prompt: str | None = None
    subjects: tuple[Subject, ...] = ()
    maps: Mapping[str, ImageSource] = Field(default_factory=dict)
    source: ImageSource | None = None
    edit_mask: ImageSource | None = None
    conditioners: tuple[Any, ...] = ()
    guidance: tuple[Any, ...] = ("classifier_free",)
    sampler: Sampler = Sampler()
    reproducibility: Reproducibility = "normal"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)] = (0,)
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One scene at one point of a run file's sweep, ready for a pipeline.

    Args:
        sweep: the swept settings and their values here; empty without a sweep.
        reproducibility: see `Pipeline.generate`.
        metrics: names of what is measured of every picture.
        number: of the scene in the file, from 0.
    """

    model: str
    scene: Scene
    conditioners: tuple[Conditioner, ...]
    guidance: tuple[Guidance, ...]
    sampler: Sampler
    seeds: tuple[int, ...]
    sweep: Mapping[str, Any]
    reproducibility: Reproducibility = "normal"
    metrics: tuple[str, ...] = ()
    number: int = 0


def read_run_file(
    path: str | Path, plugins: Registry | None = None, overrides: Iterable[str] = ()
) -> list[Run]:
    """Read, check and expand a run file. Paths in it are relative to its folder.

    Args:
        plugins: where plugins, models and metrics are looked up; the installed ones by default.
        overrides: ``path=value`` each, for example ``sampler.steps=20``; they are checked as the file is.

    Raises:
        FileErrors: everything that is wrong with it.
    """
    return runs_of(read_yaml(path), Path(path).parent, plugins, overrides)


def runs_of(
    document: Document, folder: Path, plugins: Registry | None = None, overrides: Iterable[str] = ()
) -> list[Run]:
    """As `read_run_file`, of a document that is read already; its paths are relative to ``folder``."""
    from .parser import Reader

    if not isinstance(document.data, dict):
        start = "a mapping that starts with 'version: 1'"
        hint = "Settings are written as name: value, such as prompt: a toy on grass"
        raise FileErrors([document.problem((), start, written(document.data), hint)])
    tree = Tree(document)
    migrate(tree)
    told = _Told()
    _complete(tree)
    told.add(apply_overrides(tree, overrides))
    _complete(tree)
    sweep = tree.take(("sweep",))
    scenes, wrong = scene_trees(tree, folder)
    told.add(wrong)
    runs: list[Run] = []
    for number, (scene, pictures) in enumerate(scenes):
        grid, mistakes = variants({} if sweep is None else sweep, scene)
        told.add(scene.problem(mistake) for mistake in mistakes)
        for variant in grid:
            reader = Reader(variant, folder, pictures, plugins or registry())
            run = reader.read(number)
            told.add(variant.tree.problem(mistake) for mistake in reader.mistakes)
            if run is not None:
                runs.append(run)
        if len(told.problems) >= MAX_TOLD:
            break
    pictures_count = sum(len(run.seeds) for run in runs)
    if pictures_count > MAX_PICTURES and not told.problems:
        told.add(
            [
                document.problem(
                    (),
                    f"at most {MAX_PICTURES:,} pictures",
                    f"{pictures_count:,}",
                    "Fewer seeds, or a run file for each part.",
                )
            ]
        )
    if told.problems:
        raise FileErrors(list(told.problems.values()))
    return runs


class _Told:
    """Problems, each once: scenes and points of a sweep share most of their settings."""

    def __init__(self) -> None:
        self.problems: dict[tuple[str, int, int, str, str], Problem] = {}

    def add(self, problems: Iterable[Problem]) -> None:
        for one in problems:
            self.problems.setdefault((one.file, one.line, one.column, one.expected, one.found), one)


def _complete(tree: Tree) -> None:
    """Write out the default guidance, and turn the short form ``[name]`` of plugins into ``[{type: name}]``."""
    tree.data.setdefault("guidance", ["classifier_free"])
    for kind in KINDS:
        if isinstance(tree.data.get(kind), list):
            tree.data[kind] = [{"type": item} if isinstance(item, str) else item for item in tree.data[kind]]
