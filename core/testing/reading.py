"""The check of what a plugin declares to read of a scene."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import torch
from PIL import Image

from ..api.plugin import Plugin
from ..scene.reading import SceneFields, covers, scene_fields
from ..scene.scene import Scene
from .case import Case, draw

_LEAVES: Mapping[type, Any] = {str: "other", bool: True, int: 1, float: 0.5}


def check_scene_fields_are_declared(plugin: Plugin, case: Case) -> None:
    """What the plugin does not declare to read of a scene changes no bit; a plugin may also declare nothing at all."""
    readers = [one.scene_fields for one in (plugin, *case.conditioners)]
    if None in readers:
        return
    declared: SceneFields = frozenset().union(*(one for one in readers if one is not None))
    others = [name for name in scene_fields() if not covers(declared, name)]
    before = draw(plugin, case).latents

    def changes(names: Iterable[str]) -> bool:
        try:
            after = draw(plugin, case, _changed(case, names)).latents
        except Exception:  # an error is an effect too
            return True
        return not torch.equal(after, before)

    if changes(others):
        read = [name for name in others if changes([name])] or others
        raise AssertionError(f"it reads {', '.join(read)}, which is not in its 'scene_fields'")


def _changed(case: Case, names: Iterable[str]) -> Scene:
    """The case's scene with other data of these names, also where it had none."""
    scene, fields = case.scene, scene_fields()
    for name in names:
        holder, _, field = name.rpartition(".")
        value = _other(fields[name], case.pipeline().size)
        if not holder:
            before = getattr(scene, name)
            value = {**before, **value} if isinstance(before, Mapping) else value
            changes: dict[str, Any] = {name: value}
        else:
            parts = tuple(dataclasses.replace(part, **{field: value}) for part in getattr(scene, holder))
            changes = {holder: parts}
        scene = dataclasses.replace(scene, **changes)
    return scene


def _other(annotation: Any, size: tuple[int, int]) -> Any:
    """Some value of a field: an image of this (height, width), or numbers that rise within [0, 1]."""
    kind, inner = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return _other(inner[0], size) if inner else _LEAVES[annotation]
    if kind is Mapping:
        return {_LEAVES[str]: _other(inner[1], size)}
    if kind is tuple and inner[-1] is ...:
        return (_other(inner[0], size),)
    if kind is tuple:
        return tuple((place + 1) / (len(inner) + 1) for place in range(len(inner)))
    if Path in inner:
        image = Image.new("RGB", size[::-1], "black")
        image.paste((250, 120, 30), (size[1] // 2, 0, size[1], size[0] // 2))
        return image
    return _other(inner[0], size) if inner else _LEAVES[annotation]
