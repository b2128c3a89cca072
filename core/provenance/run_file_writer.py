"""The run file of one picture, every parameter written out, so that it can be drawn again. Free of torch."""

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
from ..scene.scene import ImageSource, Scene, Subject

# what PyYAML does not take, or takes for the end of a line, within quotes
_UNSAFE = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")

Place = Callable[[ImageSource], str]
"""Gives a picture its path in the run file."""


def item_settings(
    settings: GenerationSettings, scene: Scene, seed: int, place: Place, folder: Path
) -> dict[str, Any]:
    """The settings of one picture, in the order of a run file.

    Args:
        place: called with every picture of the scene, and every path of a plugin.
        folder: where the run file stands; the model's path is relative to it.

    Raises:
        TypeError: a plugin has a parameter that cannot be written in a run file.
    """
    subjects = [subject_settings(subject, place) for subject in scene.subjects]
    pictures = {name: place(image) for name, image in scene.maps.items()}
    given: dict[str, Any] = {
        "subjects": subjects,
        "maps": pictures,
        "source": scene.source and place(scene.source),
        "edit_mask": scene.edit_mask and place(scene.edit_mask),
    }
    return {
        "version": 1,
        "model": model_path(settings, folder),
        "prompt": scene.prompt,
        **{name: value for name, value in given.items() if value},
        "conditioners": [plugin_settings(one, place) for one in settings.conditioners],
        "guidance": [plugin_settings(one, place) for one in settings.guidance],
        "sampler": {
            "scheduler": settings.scheduler,
            "steps": settings.steps,
            "width": settings.size[1],
            "height": settings.size[0],
            "batch_size": settings.batch_size,
        },
        "reproducibility": settings.reproducibility,
        "seeds": [seed],
    }


def model_path(settings: GenerationSettings, folder: Path) -> str:
    """The model's name, or its path relative to a folder."""
    path = Path(settings.model)
    lies_there = settings.folder is None or (path.is_dir() and path.resolve() == settings.folder.resolve())
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


def subject_settings(subject: Subject, place: Place) -> dict[str, Any]:
    """A subject as a run file writes it, without what is not known of it."""
    given: dict[str, Any] = {
        "phrase": subject.phrase,
        "images": [place(image) for image in subject.images],
        "box": list(subject.box) if subject.box else None,
        "mask": subject.mask and place(subject.mask),
        "style": subject.style and place(subject.style),
        "occurrence": subject.occurrence,
        "keypoints": {name: list(point) for name, point in subject.keypoints.items()},
    }
    return {name: value for name, value in given.items() if value}


def plugin_settings(plugin: Any, place: Place) -> dict[str, Any]:
    """The section of a conditioner or a guidance strategy, every parameter written out.

    Raises:
        TypeError: a parameter cannot be written in a run file.
    """
    return {"type": plugin.name, **_fields(plugin, place)}


def _fields(made: Any, place: Place) -> dict[str, Any]:
    return {item.name: _plain(getattr(made, item.name), place) for item in dataclasses.fields(made)}


def _plain(value: Any, place: Place) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Path, Image.Image)):
        return place(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, place) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item, place) for name, item in value.items()}
    if dataclasses.is_dataclass(value):
        return _fields(value, place)
    raise TypeError(f"a {type(value).__name__} cannot be written in a run file")
