"""What every plugin is: a frozen record of parameters with behaviour. Free of torch.

One class serves as the section of a run file, the object that a Python user makes and the code that runs, so a
parameter is written down once, with its range and its description.
"""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..scene.reading import SceneFields
from ..scene.record import record
from ..scene.scene import Scene


@dataclass(frozen=True)
class PluginFile:
    """A file of Python that a plugin was loaded from by its path.

    Args:
        path: absolute.
        sha256: of what was in it when it ran.
    """

    path: Path
    sha256: str


@record
class Plugin(ABC):
    """Base of conditioners and guidance strategies. Subclasses are decorated with `record` and set `name`."""

    name: ClassVar[str]
    """How run files and `conditioners=[...]` call it: lower case with underscores."""

    kind: ClassVar[Literal["conditioner", "guidance"]]

    neutral: ClassVar[Mapping[str, Any]]
    """Parameters at which the plugin changes no bit of the result."""

    scene_fields: ClassVar[SceneFields | None] = None
    """What of a scene the plugin reads, whatever its parameters, beside the prompt and the subjects' phrases: for
    example ``frozenset({"subjects.box", "maps.edges", "source"})``. None: it does not say, and so nobody is warned of
    scene data that nothing reads."""

    other_names: ClassVar[Mapping[str, str]] = {}
    """What other programs call a parameter, and its name here, for the hints on run files."""

    defined_in: ClassVar[PluginFile | None] = None
    """The file that the class was loaded from by its path; None for a class of an imported module."""

    def companions(self, scene: Scene) -> Sequence[Scene]:
        """Scenes to draw beside a scene, from the same noise and in the same batch, such as the source of an edit.

        They are drawn whatever the batch size, and their images are not kept. Map edits find them in
        `MapCall.rows.sets`, strategies in `Batch.sets`: first these, in this order, and last the scene's own.
        """
        return ()

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]


@dataclass(frozen=True)
class ModelCard:
    """A model that can be loaded by name.

    Args:
        summary: one line for `weft models`.
        folder: a diffusers layout.
        weights: False where the folder holds configurations only, for a single file or for random weights.
        sha256: digests by relative path; empty when nothing is pinned.
    """

    summary: str
    folder: Path
    weights: bool = True
    sha256: tuple[tuple[str, str], ...] = ()
