"""Settings from the command line, ``--set path=value``: they are put over those of the file, and checked like them."""

from __future__ import annotations

from collections.abc import Iterable

from ..scene.fields import Keys
from .settings_tree import Tree, split_path
from .strict_yaml import FileError, FileErrors, parse_yaml

FLAG = "--set"


def apply_overrides(tree: Tree, overrides: Iterable[str]) -> list[FileError]:
    """Put every ``path=value`` into its place, the last of one path last; gives what is wrong with them.

    A setting that is swept in the file is swept no more once it is overridden.
    """
    errors = []
    for text in overrides:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not path:
            errors.append(_error(text, "path=value", f"'{text}'", "As in --set sampler.steps=20"))
            continue
        try:
            document = parse_yaml(value or "null", f"{FLAG} {path}={_short(value)}", inline=True)
            scalar = isinstance(document.data, (str, int, float))
            if scalar and " #" in value and not value.strip().startswith(("'", '"')):
                document.data = value.strip()  # a shell's user writes no comments
            document.warnings.clear()
        except FileErrors as error:
            errors += error.errors
            continue
        keys = _keys(path)
        if keys[0] == "version":
            errors.append(
                _error(
                    path, "a setting that can be overridden", "'version'", "It says how the file is written."
                )
            )
        elif not tree.has(keys):
            hint = "List items are counted from 0, as in guidance.0.scale."
            errors.append(_error(path, "the path of a setting", f"'{path}', which leads nowhere", hint))
        else:
            sweep = tree.data.get("sweep")
            if isinstance(sweep, dict) and keys[0] != "sweep":
                sweep.pop(path, None)
            tree.put(keys, document.data, (document, ()))
    return errors


def _keys(path: str) -> Keys:
    # a swept setting's name is a path itself, and stays whole
    return ("sweep", path.removeprefix("sweep.")) if path.startswith("sweep.") else split_path(path)


def _error(text: str, expected: str, found: str, hint: str = "") -> FileError:
    return FileError(f"{FLAG} {_short(text)}", 0, 0, "", expected, found, hint)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
