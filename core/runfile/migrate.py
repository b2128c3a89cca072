"""Older versions of the run file: one step for each version, from it to the next.

A step changes a `Tree`, so that a mistake in a setting which has moved is still told at the line where it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .settings_tree import Tree
from .strict_yaml import FileErrors
from .validation import written

VERSION = 1
"""The version that this release writes and reads without a step."""

Step = Callable[[Tree], None]
STEPS: Mapping[int, Step] = {}
"""From a version to what makes the next one of it. Version 1 is the first, so there is none yet."""


def migrate(tree: Tree, steps: Mapping[int, Step] = STEPS, version: int = VERSION) -> int | None:
    """Bring settings to the present version, step by step.

    Args:
        tree: the settings; one whose version is missing or no number is left to the checks that follow.
        steps: by the version that they start from.
        version: the present one.

    Returns:
        the version that the settings had, when it was an older one.

    Raises:
        FileErrors: the version is newer than this release, or older than the first step.
    """
    found = tree.data.get("version")
    if type(found) is not int or found == version:
        return None
    first = min(steps, default=version)
    if not first <= found < version:
        known = f"{version}" if first == version else f"a version from {first} to {version}"
        hint = f"Write version: {version}" if first == version else f"Files are read from version {first} on."
        if found > version:
            hint = "The file is made for a newer weft; this one cannot read it."
        raise FileErrors([tree.document.problem(("version",), known, written(found), hint)])
    for number in range(found, version):
        steps[number](tree)
        tree.data["version"] = number + 1
    return found
