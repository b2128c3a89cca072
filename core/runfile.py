"""Run files: a scene, what conditions it, how it is sampled, and what is swept, in YAML. Free of torch.

`read_run_file` reports every mistake at once, each with its line. A valid file is a list of variants: one, or the
product of its sweep.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from .complaints import Complaint, complaints, written
from .conditioner import Conditioner
from .errors import PluginError, UserError, WeftError, did_you_mean
from .guidance import Guidance
from .records import record
from .registry import Registry, registry
from .scene import ImageSource, Scene, Subject, locate
from .sweep import variants
from .yamlfile import Document, FileErrors, Keys, Problem, read_yaml

T = TypeVar("T")
KINDS = {"conditioners": "conditioner", "guidance": "guidance"}
Seed = Annotated[int, Field(ge=0, lt=2**63)]


Side = Annotated[int, Field(ge=8, le=4096)]


@record
class Sampler:
    """How a picture is sampled; what is not given is up to the model."""

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
class Settings:
    """The top level of a run file, before its plugins are looked up."""

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
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=10_000)] = (0,)


@dataclass(frozen=True)
class Run:
    """One variant of a run file, ready for a pipeline.

    Args:
        sweep: the swept settings and their values in this variant; empty without a sweep.
    """

    model: str
    scene: Scene
    conditioners: tuple[Conditioner, ...]
    guidance: tuple[Guidance, ...]
    sampler: Sampler
    seeds: tuple[int, ...]
    sweep: Mapping[str, Any]


def read_run_file(path: str | Path, plugins: Registry | None = None) -> list[Run]:
    """Read, check and expand a run file. Paths in it are relative to its folder.

    Raises:
        FileErrors: everything that is wrong with it.
    """
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        start = "a mapping that starts with 'version: 1'"
        raise FileErrors([document.problem((), start, written(document.data))])
    data = copy.deepcopy(document.data)
    sweep = data.pop("sweep", {})
    data.setdefault("guidance", ["classifier_free"])
    _name_sections(data)
    grid, mistakes = variants(sweep, data)
    problems = {mistake: _problem(document, mistake, mistake.keys) for mistake in mistakes}
    runs = []
    for variant in grid:
        reader = _Reader(variant.data, Path(path).parent, plugins or registry())
        run = reader.read(variant.values)
        if run is not None:
            runs.append(run)
        for mistake in reader.mistakes:
            problem = _problem(document, mistake, variant.origin(mistake.keys))
            problems[replace(mistake, keys=(problem.line, problem.column))] = problem
    if problems:
        raise FileErrors(list(problems.values()))
    return runs


def _problem(document: Document, mistake: Complaint, keys: Keys) -> Problem:
    return document.problem(keys, mistake.expected, mistake.found, mistake.hint, mistake.at_name)


def _name_sections(data: dict[str, Any]) -> None:
    """Turn the short form ``[name]`` of a list of plugins into ``[{type: name}]``."""
    for kind in KINDS:
        if isinstance(data.get(kind), list):
            data[kind] = [{"type": item} if isinstance(item, str) else item for item in data[kind]]


class _Reader:
    """Reads the data of one variant and collects its mistakes."""

    def __init__(self, data: dict[str, Any], folder: Path, plugins: Registry) -> None:
        self.data, self.folder, self.plugins = data, folder, plugins
        self.mistakes: list[Complaint] = []

    def read(self, sweep: Mapping[str, Any]) -> Run | None:
        """The run, or None when something in it is wrong."""
        for holder, name, keys in list(_pictures(self.data)):
            self._resolve_picture(holder, name, keys)
        settings = self._validate(Settings, self.data, (), also=["sweep"])
        self._check_phrases()
        self._check_model()
        if settings is not None and len(set(settings.seeds)) < len(settings.seeds):
            self.mistakes.append(Complaint(("seeds",), "different seeds", "one that is there twice"))
        self._hand_out_negative_prompt()
        conditioners, guidance = (self._make_plugins(kind) for kind in KINDS)
        if settings is None or self.mistakes:
            return None
        return Run(
            model=self.data["model"],
            scene=Scene(
                settings.prompt, settings.subjects, settings.maps, settings.source, settings.edit_mask
            ),
            conditioners=conditioners,
            guidance=guidance,
            sampler=settings.sampler,
            seeds=settings.seeds,
            sweep=sweep,
        )

    def _validate(self, section: type[T], data: Any, keys: Keys, also: Iterable[str] = ()) -> T | None:
        try:
            return TypeAdapter(section).validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            found = complaints(section, data, error, also)
            self.mistakes += [replace(mistake, keys=keys + mistake.keys) for mistake in found]
            return None

    def _resolve_picture(self, holder: Any, name: str | int, keys: Keys) -> None:
        path = self.folder / holder[name]
        try:
            there = path.is_file()
        except ValueError:  # a null character
            there = False
        if there:
            holder[name] = str(path.resolve())
            return
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        found = f"no such file: {written(holder[name])}"
        self.mistakes.append(Complaint(keys, "a picture", found, did_you_mean(path.name, siblings)))

    def _check_phrases(self) -> None:
        prompt, subjects = self.data.get("prompt"), self.data.get("subjects")
        for index, subject in enumerate(subjects if isinstance(subjects, list) else []):
            words = subject if isinstance(subject, dict) else {}
            phrase, occurrence = words.get("phrase"), words.get("occurrence")
            if not (isinstance(prompt, str) and isinstance(phrase, str) and phrase.strip()):
                continue
            try:
                locate(prompt, phrase, occurrence if type(occurrence) is int and occurrence > 0 else None)
            except UserError as error:
                name = "occurrence" if "'occurrence'" in error.place else "phrase"
                place: Keys = ("subjects", index, name)
                self.mistakes.append(Complaint(place, error.expected, error.found, error.hint))

    def _check_model(self) -> None:
        name = self.data.get("model")
        known = sorted(self.plugins.models())
        if not isinstance(name, str) or not name or name in known:
            return
        path = self.folder / name
        try:
            there = path.exists()
        except ValueError:  # a null character
            there = False
        if there:
            self.data["model"] = str(path.resolve())
            return
        if name.count("/") == 1 and not path.suffix and not name.startswith((".", "/")):
            return  # a hub id, which only loading can check
        expected = f"a model ({', '.join(known)}), a folder or a .safetensors file"
        self.mistakes.append(Complaint(("model",), expected, written(name), did_you_mean(name, known)))

    def _hand_out_negative_prompt(self) -> None:
        """Give the top-level negative prompt to the guidance strategies that read one."""
        text = self.data.get("negative_prompt")
        if not isinstance(text, str):
            return
        readers = 0
        for index, section in enumerate(self._sections("guidance")):
            try:
                names = [
                    item.name for item in dataclasses.fields(self.plugins.plugin(section["type"], "guidance"))
                ]
            except WeftError:
                continue  # told by _make_plugins
            if "negative_prompt" in names:
                readers += 1
                if "negative_prompt" in section:
                    place: Keys = ("guidance", index, "negative_prompt")
                    self.mistakes.append(
                        Complaint(place, "one negative prompt", "one here and one at the top")
                    )
                section["negative_prompt"] = text
        if not readers:
            expected = "a guidance strategy that reads it, such as classifier_free"
            self.mistakes.append(Complaint(("negative_prompt",), expected, "none under 'guidance'"))

    def _sections(self, kind: str) -> list[dict[str, Any]]:
        """The plugin sections that have a type; the others are told by `_make_plugins`."""
        items = self.data.get(kind, [])
        return [item if _has_type(item) else {} for item in items] if isinstance(items, list) else []

    def _make_plugins(self, kind: str) -> tuple[Any, ...]:
        made = []
        for index, section in enumerate(self._sections(kind)):
            keys: Keys = (kind, index)
            if not section:
                expected = "a plugin's name, or a mapping with 'type: name'"
                self.mistakes.append(Complaint(keys, expected, written(self.data[kind][index])))
                continue
            try:
                plugin = self.plugins.plugin(section["type"], KINDS[kind])
            except UserError as error:
                self.mistakes.append(Complaint((*keys, "type"), error.expected, error.found, error.hint))
            except PluginError as error:
                self.mistakes.append(Complaint((*keys, "type"), "a plugin that works", str(error)))
            else:
                fields = {name: value for name, value in section.items() if name != "type"}
                made.append(self._validate(plugin, fields, keys, also=["type"]))
        return tuple(made)


def _has_type(section: Any) -> bool:
    return isinstance(section, dict) and isinstance(section.get("type"), str)


def _pictures(data: dict[str, Any]) -> Iterator[tuple[Any, str | int, Keys]]:
    """(holder, key, place) of everything that names a picture."""
    subjects = data.get("subjects")
    holders: list[tuple[Any, Iterable[str | int], Keys]] = [(data, ("source", "edit_mask"), ())]
    if isinstance(maps := data.get("maps"), dict):
        holders.append((maps, list(maps), ("maps",)))
    for index, subject in enumerate(subjects if isinstance(subjects, list) else []):
        if isinstance(subject, dict):
            holders.append((subject, ("mask", "style"), ("subjects", index)))
            if isinstance(images := subject.get("images"), list):
                holders.append((images, range(len(images)), ("subjects", index, "images")))
    for holder, names, keys in holders:
        for name in names:
            named = holder[name] if isinstance(name, int) else holder.get(name)
            if isinstance(named, str):
                yield holder, name, (*keys, name)
