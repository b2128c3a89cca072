"""Many scenes for one run file: a list in it, or a file of its own in JSON lines or YAML."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

from ..scene.field_error import FieldError, unknown_name
from ..scene.fields import Keys
from ..scene.paths import expanded
from .hints import other_name
from .settings import SCENE
from .settings_tree import Tree, leaves
from .strict_yaml import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_ERRORS,
    Document,
    FileError,
    FileErrors,
    parse_yaml,
    read_text,
    read_yaml,
)
from .validation import written

MAX_SCENES = 10_000
MAX_FILE_BYTES = 32_000_000
BESIDE = "Move it into the scenes that it is for."
LISTS = "Write [{prompt: a toy}, {prompt: a star}], or the name of a file such as scenes.jsonl"
_SURROGATE = re.compile("[\ud800-\udfff]")


def scene_trees(tree: Tree, folder: Path) -> tuple[list[tuple[Tree, Path]], list[FileError]]:
    """The settings of every scene, each with the folder that its images are relative to, and what is wrong.

    Args:
        tree: the run file's settings; ``scenes`` is taken out.
        folder: of the run file.
    """
    if "scenes" not in tree.data:
        return [(tree, folder)], []
    origin, keys = tree.origin(("scenes",))
    value = tree.take(("scenes",))
    errors = []
    for name in SCENE:
        if name in tree.data and name != "negative_prompt":
            error = FieldError((name,), "it in every scene", "it beside 'scenes'", BESIDE, at_name=True)
            errors.append(tree.error(error))
    if isinstance(value, list):
        scenes = [(origin, (*keys, index), scene) for index, scene in enumerate(value)]
        images_folder = folder
    elif isinstance(value, str):
        try:
            path = _path(folder, value)
            scenes, line_errors = _read(path)
        except FileErrors as error:
            return [], [*errors, *error.errors]
        except _NotThere as error:
            return [], [*errors, origin.error(keys, *error.args)]
        errors += line_errors
        images_folder = path.parent
    else:
        return [], [
            *errors,
            origin.error(keys, "a list of scenes, or a file of them", written(value), LISTS),
        ]
    if not 0 < len(scenes) <= MAX_SCENES:
        expected = f"1 to {MAX_SCENES:,} scenes"
        found = f"{len(scenes):,}" if len(scenes) <= MAX_SCENES else "more"
        return [], errors or [origin.error(keys, expected, found, LISTS)]
    trees = []
    for document, place, scene in scenes:
        if len(errors) >= MAX_ERRORS:
            break
        content = {"prompt": scene} if isinstance(scene, str) else scene
        scene_errors = _check(document, place, content)
        errors += scene_errors
        if not scene_errors:
            settings = tree.copy()
            for name in SCENE:
                # a scene that is a bare text has no key 'prompt' of its own
                written_at = (document, place if isinstance(scene, str) else (*place, name))
                if name in content:
                    settings.put((name,), content[name], written_at)
                elif name not in settings.data:
                    settings.credit((name,), written_at)
            trees.append((settings, images_folder))
    return trees, errors


class _NotThere(Exception):
    """What was expected of the name of a scenes file, what was found, and a hint."""


def _path(folder: Path, name: str) -> Path:
    path = folder / expanded(Path(name))
    if path.suffix not in (".jsonl", ".yaml", ".yml"):
        raise _NotThere("a .jsonl or .yaml file of scenes", written(name), LISTS)
    return path


def _check(document: Document, keys: Keys, scene: Any) -> list[FileError]:
    if not isinstance(scene, dict):
        return [
            document.error(
                keys,
                "a scene, such as {prompt: a red star}",
                written(scene),
                "A scene may also be its prompt alone.",
            )
        ]
    unknown = [unknown_name((*keys, name), name, SCENE, other_name) for name in scene if name not in SCENE]
    return [document.error(one.keys, one.expected, one.found, one.hint, one.at_name) for one in unknown]


def _read(path: Path) -> tuple[list[tuple[Document, Keys, Any]], list[FileError]]:
    if path.suffix == ".jsonl":
        return _read_lines(path)
    document = read_yaml(path)
    if not isinstance(document.data, list):
        raise FileErrors(
            [document.error((), "a list of scenes", written(document.data), "Start each with '- '.")]
        )
    return [(document, (index,), scene) for index, scene in enumerate(document.data)], []


def _read_lines(path: Path) -> tuple[list[tuple[Document, Keys, Any]], list[FileError]]:
    lines = io.StringIO(read_text(path, MAX_FILE_BYTES))  # a million lines at once take hundreds of megabytes
    scenes: list[tuple[Document, Keys, Any]] = []
    errors: list[FileError] = []
    for number, line in enumerate(lines):
        if len(errors) >= MAX_ERRORS or len(scenes) > MAX_SCENES:
            break
        if line.strip():
            document = _Line(str(path), [line.rstrip("\r\n")], above=number)
            try:
                document.data = _parse_line(document)
                scenes.append((document, (), document.data))
            except FileErrors as error:
                errors += error.errors
    return scenes, errors


class _Line(Document):
    """One line of JSON; its places are looked for when there is an error to report, as finding them is slow."""

    def error(
        self, keys: Keys, expected: str, found: str, hint: str = "", at_name: bool = False
    ) -> FileError:
        if not self.values:
            try:
                parsed = parse_yaml(self.lines[0], self.name, self.above)
            except FileErrors:
                self.values[()] = (1, 1)
            else:
                self.values, self.names = parsed.values, parsed.names
        return super().error(keys, expected, found, hint, at_name)


class _Repeated(Exception):
    """A name that stands in one mapping twice."""


def _parse_line(document: _Line) -> Any:
    line = document.lines[0]
    if len(line) > MAX_BYTES:
        raise FileErrors(
            [document.at((1, 1), f"lines of at most {MAX_BYTES:,} characters", f"{len(line):,}")]
        )
    try:
        data = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise FileErrors([document.at((1, error.colno), "valid JSON", error.msg)]) from None
    except _Repeated as error:
        raise FileErrors([document.at((1, 1), "each name once", f"'{error}' again")]) from None
    except RecursionError:
        raise FileErrors([document.at((1, 1), f"at most {MAX_DEPTH} levels", "more")]) from None
    except ValueError:  # an integer of thousands of digits
        raise FileErrors([document.at((1, 1), "numbers of at most 20 digits", "a longer one")]) from None
    if _depth(data) > MAX_DEPTH:
        raise FileErrors([document.at((1, 1), f"at most {MAX_DEPTH} levels", "more")])
    for keys, value in leaves(data):
        texts = [part for part in (*keys, value) if isinstance(part, str)]
        if any(_SURROGATE.search(text) for text in texts):
            raise FileErrors([document.at((1, 1), "text", "half a character")])
        if isinstance(value, float) and not math.isfinite(value):
            raise FileErrors([document.error(keys, "a finite number", str(value))])
    return data


def _depth(data: Any) -> int:
    """How many lists and mappings lie in each other; counted no further than is needed."""
    level, depth = [data], 0
    while depth <= MAX_DEPTH and (level := [part for part in level if isinstance(part, (dict, list))]):
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for name, value in pairs:
        if name in mapping:
            raise _Repeated(name)
        mapping[name] = value
    return mapping
