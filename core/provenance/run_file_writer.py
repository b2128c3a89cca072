"""The run file of one image, every parameter written out, so that it can be drawn again. Free of torch."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..api.generation_settings import GenerationSettings
from ..scene.fields import default
from ..scene.scene import ImageSource, Scene

# what PyYAML does not take, or takes for the end of a line, within quotes
_UNSAFE = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")

Place = Callable[[ImageSource], str]
"""Gives an image its path in the run file."""


def item_settings(
    settings: GenerationSettings, scene: Scene, seed: int, place: Place, folder: Path
) -> dict[str, Any]:
    """The settings of one image, in the order of a run file.

    Args:
        place: called with every image of the scene, and every path of a plugin.
        folder: where the run file stands; the model's path is relative to it.

    Raises:
        TypeError: a plugin has a parameter that cannot be written in a run file.
    """
    return {
        "version": 1,
        "model": model_path(settings, folder),
        **_loading(settings, place),
        **scene_settings(scene, place),
        "conditioners": [plugin_settings(one, place) for one in settings.conditioners],
        "guidance": [plugin_settings(one, place) for one in settings.guidance],
        "sampler": settings.sampler.options(),
        "reproducibility": settings.reproducibility,
        "seeds": [seed],
    }


def _loading(settings: GenerationSettings, place: Place) -> dict[str, Any]:
    """What a run file says of how the model is loaded; device and precision stand in the provenance."""
    options = {k: v for k, v in settings.loaded.options().items() if k not in ("device", "dtype")}
    return {name: place(value) if isinstance(value, Path) else value for name, value in options.items()}


def model_path(settings: GenerationSettings, folder: Path) -> str:
    """The model's name, or its path relative to a folder."""
    path = Path(settings.model)
    lies_there = settings.folder is None or (path.is_dir() and path.resolve() == settings.folder.resolve())
    lies_there = lies_there or (
        path.is_file() and path.suffix == ".safetensors"
    )  # and its folder is beside it
    return relative(path, folder) if lies_there or path.is_absolute() else settings.model


def relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with forward slashes."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return path.name


def run_file_text(settings: Mapping[str, Any]) -> str:
    """Settings as YAML: a line for each, list items of mappings on lines of their own, values as JSON writes them."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{name}:", *(f"  - {_json(item)}" for item in value)]
        else:
            lines.append(f"{name}: {_json(value)}")
    return "\n".join(lines) + "\n"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def scene_settings(scene: Scene, place: Place) -> dict[str, Any]:
    """A scene as a run file writes it: of itself and of its subjects what is not left out."""
    settings: dict[str, Any] = _plain(scene, place, sparse=True)
    return settings


def plugin_settings(plugin: Any, place: Place) -> dict[str, Any]:
    """The section of a conditioner or a guidance strategy, every parameter written out.

    Args:
        place: called with every path, that of the plugin's own file too.

    Raises:
        TypeError: a parameter cannot be written in a run file.
    """
    file = plugin.defined_in
    return {"type": plugin.name if file is None else place(file.path), **_plain(plugin, place)}


def _plain(value: Any, place: Place, sparse: bool = False) -> Any:
    """A value as JSON has it; a sparse record is written without the fields that are as if they were left out."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Path, Image.Image)):
        return place(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, place, sparse) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item, place, sparse) for name, item in value.items()}
    if dataclasses.is_dataclass(value):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        written = ((field.name, part) for field, part in fields if not sparse or part != default(field))
        return {name: _plain(part, place, sparse) for name, part in written}
    raise TypeError(f"a {type(value).__name__} cannot be written in a run file")
