"""Reading the settings of one run: every part is checked, and every error is collected."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..api.conditioner import Conditioner
from ..api.guidance import DEFAULT_GUIDANCE, Guidance
from ..api.load_settings import DTYPES, dtype_name
from ..api.plugin import Plugin
from ..api.plugin_loading import SUFFIX
from ..api.registry import Registry
from ..checkpoints.hub import is_hub_id
from ..checkpoints.kind import check_model
from ..errors import PluginError, UserError, WeftError, did_you_mean
from ..sampling.checks import refusals
from ..scene.field_error import FieldError
from ..scene.fields import Keys, field_types
from ..scene.image_io import check_image
from ..scene.images import map_images
from ..scene.paths import expanded
from ..scene.reading import scene_data
from ..scene.scene import Scene, Subject, locate
from .hints import PATHS, about, known_elsewhere, missing_file, untyped
from .local_schedule import schedule_error
from .run import Run
from .settings import KINDS, MAX_SEEDS, SETTINGS, SeedRange, Settings
from .sweep import Variant
from .validation import field_errors, written

T = TypeVar("T")


# one for each section: every scene of a long list is read with it
_adapter: Any = functools.cache(TypeAdapter)


class Reader:
    """Reads one variant of a run file and collects its errors.

    Args:
        variant: the settings.
        folder: of the run file; paths are relative to it.
        images_folder: what paths of images in the settings are relative to.
        plugins: where plugins, models and metrics are looked up.
    """

    def __init__(self, variant: Variant, folder: Path, images_folder: Path, plugins: Registry) -> None:
        self.variant, self.folder, self.images_folder, self.plugins = variant, folder, images_folder, plugins
        self.data = copy.deepcopy(variant.tree.data)
        self.errors: list[FieldError] = []

    def read(self, number: int) -> Run | None:
        """The run of the scene with this number, or None when something in it is wrong."""
        self._resolve_images()
        self._resolve_vae()
        self._expand_seeds()
        self._other_precision()
        settings = self._validate(Settings, self.data, (), ["scenes", "sweep", *SETTINGS])
        self._check_phrases()
        self._resolve_plugin_files()
        self._check_model()
        self._check_metrics()
        if settings is not None and not self.errors:
            self._check_schedule(settings)
        if settings is not None and len(set(settings.seeds)) < len(settings.seeds):
            self.errors.append(
                FieldError(
                    ("seeds",),
                    "different seeds",
                    "one that is there twice",
                    "The same seed gives the same image.",
                )
            )
        self._hand_out_negative_prompt()
        conditioners, guidance = (self._make_plugins(kind) for kind in KINDS)
        if settings is None or self.errors:
            return None
        scene = settings.scene()
        self._check_scene(scene, conditioners, guidance)
        if self.errors:
            return None
        return Run(
            model=self.data["model"],
            scene=scene,
            conditioners=conditioners,
            guidance=guidance,
            sampler=settings.sampler,
            seeds=settings.seeds,
            sweep=self.variant.values,
            reproducibility=settings.reproducibility,
            metrics=settings.metrics,
            number=number,
            load=settings.loaded(),
        )

    def _validate(self, section: type[T], data: Any, keys: Keys, first: Iterable[str] = ()) -> T | None:
        """Data as a record, or None. It may have the names ``first`` and those of the record's fields."""
        try:
            record: T = _adapter(section).validate_json(json.dumps(data), strict=True)
            return record
        except ValidationError as error:
            known = dict.fromkeys((*first, *(field.name for field in dataclasses.fields(section))))  # type: ignore[arg-type]
            for one in field_errors(section, data, error, list(known)):
                self.errors.append(replace(one, keys=keys + one.keys))
            return None

    def _expand_seeds(self) -> None:
        """Write out seeds that are given by their number."""
        seeds = self.data.get("seeds")
        if isinstance(seeds, dict):
            span = self._validate(SeedRange, seeds, ("seeds",))
            self.data["seeds"] = [0] if span is None else list(range(span.first, span.first + span.count))
        elif "seeds" in self.data and not isinstance(seeds, list):
            hint = about(Settings, ("seeds",))
            if type(seeds) is int:
                hint = f"Write [{seeds}] for one seed, {{count: {seeds}}} for many."
            expected = f"a list of seeds, or a mapping with 'count' (1 to {MAX_SEEDS})"
            self.errors.append(FieldError(("seeds",), expected, written(seeds), hint))
            del self.data["seeds"]

    def _resolve_images(self) -> None:
        def resolved(name: str, keys: Keys, spatial: bool) -> str:
            path = self.images_folder / expanded(Path(name))
            if self._is_there(path, Path.is_file):
                try:
                    check_image(path, name)
                except UserError as error:
                    self.errors.append(FieldError(keys, error.expected, error.found, error.hint))
                return str(path.resolve())
            self.errors.append(FieldError(keys, "an image", *self._no_such_file(path, name)))
            return name

        self.data = map_images(Scene, self.data, resolved)

    def _is_there(self, path: Path, test: Any) -> bool:
        try:
            return bool(test(path))
        except (ValueError, OSError):  # a null character, a name that is too long
            return False

    def _no_such_file(self, path: Path, name: str) -> tuple[str, str]:
        if self._is_there(path, Path.is_dir):
            return f"the folder {written(name)}", "Name one file in it."
        near = self._is_there(path.parent, Path.is_dir)
        siblings = [entry.name for entry in path.parent.iterdir()] if near else []
        hint = did_you_mean(path.name, siblings) or missing_file(near, str(Path(name).parent))
        return f"no such file: {written(name)}", hint

    def _other_precision(self) -> None:
        """Say what a precision is called here."""
        name = self.data.get("dtype")
        if isinstance(name, str) and name not in DTYPES:
            try:
                self.data["dtype"] = dtype_name(name)
            except UserError as error:
                self.errors.append(FieldError(("dtype",), error.expected, error.found, error.hint))
                del self.data["dtype"]

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
                self.errors.append(FieldError(place, error.expected, error.found, error.hint))

    def _resolve_vae(self) -> None:
        vae = self.data.get("vae")
        if isinstance(vae, str) and vae:
            path = self.folder / expanded(Path(vae))
            if self._is_there(path, Path.exists):
                self.data["vae"] = str(path.resolve())
            else:
                self.errors.append(FieldError(("vae",), "a file or a folder", *self._no_such_file(path, vae)))

    def _check_model(self) -> None:
        name = self.data.get("model")
        if not isinstance(name, str) or not name:
            return
        try:
            card = self.plugins.model(name, self.folder)
        except PluginError as error:
            self.errors.append(FieldError(("model",), "a model of one distribution", str(error)))
            return
        if card is not None:
            if not card.weights:
                hint = "Its configurations are those that a checkpoint of yours is read with: name that file."
                expected = "a model with weights, a folder or a .safetensors file"
                self.errors.append(FieldError(("model",), expected, f"'{name}', configurations only", hint))
            return
        path = self.folder / expanded(Path(name))
        if self._is_there(path, Path.exists):
            self.data["model"] = str(path.resolve())
            try:
                check_model(path, "model", isinstance(self.data.get("vae"), str))
            except UserError as error:
                self.errors.append(FieldError(("model",), error.expected, error.found, error.hint))
            return
        if is_hub_id(name):
            return  # a hub id, which only loading can check
        known = sorted(self.plugins.models())
        expected = f"a model ({', '.join(known)}), a folder or a .safetensors file"
        hint = did_you_mean(name, known) or PATHS
        if path.suffix in (".ckpt", ".pt", ".pth", ".bin"):
            hint = "Pickled weights are never read; convert them to .safetensors."
        self.errors.append(FieldError(("model",), expected, written(name), hint))

    def _check_schedule(self, settings: Settings) -> None:
        card = self.plugins.model(self.data["model"], self.folder)
        folder = Path(self.data["model"]) if card is None else card.folder
        if (error := schedule_error(folder, settings.sampler)) is not None:
            self.errors.append(error)

    def _check_metrics(self) -> None:
        names = self.data.get("metrics")
        for index, name in enumerate(names if isinstance(names, list) else []):
            if not isinstance(name, str):
                continue
            try:
                metric = self.plugins.metric(name)
            except PluginError as error:
                self.errors.append(FieldError(("metrics", index), "a metric of one distribution", str(error)))
                continue
            if metric is None:
                known = sorted(self.plugins.metrics())
                expected = f"an installed metric ({', '.join(known) or 'none is installed'})"
                hint = (
                    did_you_mean(name, known) or "Others come in packages of their own, installed with pip."
                )
                self.errors.append(FieldError(("metrics", index), expected, written(name), hint))

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
            except (WeftError, KeyError):
                continue  # reported by _make_plugins
            if "negative_prompt" in names:
                readers += 1
                if "negative_prompt" in section:
                    place: Keys = ("guidance", index, "negative_prompt")
                    both = "one here and one at the top"
                    hint = "The one at the top reaches every strategy that reads one."
                    self.errors.append(FieldError(place, "one negative prompt", both, hint))
                section["negative_prompt"] = text
        if not readers:
            (usual,) = DEFAULT_GUIDANCE
            expected = f"a guidance strategy that reads it, such as {usual}"
            hint = f"Add {usual} to 'guidance', or take the line out."
            self.errors.append(FieldError(("negative_prompt",), expected, "none under 'guidance'", hint))

    def _sections(self, kind: str) -> list[dict[str, Any]]:
        """The plugin sections that have a type; the others are reported by `_make_plugins`."""
        items = self.data.get(kind, [])
        return [item if _has_type(item) else {} for item in items] if isinstance(items, list) else []

    def _resolve_plugin_files(self) -> None:
        """A type that is a file's path is relative to the run file."""
        for kind in KINDS:
            for section in filter(None, self._sections(kind)):
                if section["type"].endswith(SUFFIX):
                    section["type"] = str((self.folder / section["type"]).resolve())

    def _make_plugins(self, kind: str) -> tuple[Any, ...]:
        plugins = []
        for index, section in enumerate(self._sections(kind)):
            keys: Keys = (kind, index)
            if not section:
                expected = "a plugin's name, or a mapping with 'type: name'"
                item = self.data[kind][index]
                self.errors.append(FieldError(keys, expected, written(item), untyped(item)))
                continue
            try:
                plugin = self.plugins.plugin(section["type"], KINDS[kind])
            except UserError as error:
                hint = known_elsewhere(section["type"].lower()) or error.hint
                self.errors.append(FieldError((*keys, "type"), error.expected, error.found, hint))
            except PluginError as error:
                hint = "`weft plugins list` shows what is broken, and where it came from."
                self.errors.append(FieldError((*keys, "type"), "a plugin that works", str(error), hint))
            else:
                fields = {name: value for name, value in section.items() if name != "type"}
                fields = self._resolve_files(plugin, fields, keys)
                plugins.append(self._validate(plugin, fields, keys, ["type"]))
        return tuple(plugins)

    def _check_scene(
        self, scene: Scene, conditioners: Sequence[Conditioner], guidance: Sequence[Guidance]
    ) -> None:
        """Report what plugins refuse of the scene: at the scene's own data where they name it, else at the plugin."""
        inner = [
            ("subjects", i, field.name)
            for i in range(len(scene.subjects))
            for field in dataclasses.fields(Subject)
        ]
        said = (keys for _, keys in scene_data(scene))
        places: dict[str, Keys] = {scene.place(keys): keys for keys in (*inner, *said)}
        for plugin, error in refusals([scene], conditioners, guidance):
            kind, among = (
                ("conditioners", conditioners) if plugin.kind == "conditioner" else ("guidance", guidance)
            )
            keys: Keys = (kind, next(number for number, one in enumerate(among) if one is plugin))
            if isinstance(error, UserError):
                # the error's own place says more than the keys, unless it is the same
                where = places.get(error.place)
                expected = error.expected if where else f"{error.expected} ({error.place})"
                self.errors.append(FieldError(where or keys, expected, error.found, error.hint))
            else:
                self.errors.append(FieldError(keys, "a plugin that works", str(error)))

    def _resolve_files(self, plugin: type[Plugin], fields: dict[str, Any], keys: Keys) -> dict[str, Any]:
        """Parameters that are files or folders, alone, in lists or by name, are relative to the run file."""

        def resolved(value: str, keys: Keys, spatial: bool) -> str:
            path = self.folder / expanded(Path(value))
            if not value:
                return value
            if self._is_there(path, Path.exists):
                return str(path.resolve())
            if not (keys[-1] == "weights" and is_hub_id(value)):  # which only drawing can check
                reason, hint = self._no_such_file(path, value)
                self.errors.append(FieldError(keys, "a file or a folder", reason, hint))
            return value

        known = {name: annotation for name, annotation in field_types(plugin).items() if name in fields}
        return fields | {
            name: map_images(annotation, fields[name], resolved, (*keys, name))
            for name, annotation in known.items()
        }


def _has_type(section: Any) -> bool:
    return isinstance(section, dict) and isinstance(section.get("type"), str)
