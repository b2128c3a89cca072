"""The rooms of the house: the drawing in docs/design.md is true, and what promises to be free of torch is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PARTS = ["core", "plugins", "kernels", "zoo", "cli"]
OF_THE_CORE = {"errors.py", "load.py", "pipeline.py", "result.py", "__init__.py"}

IN_THE_CORE = {path.stem for path in (ROOT / "core").iterdir() if not path.stem.startswith("_")}
ROOMS = IN_THE_CORE | set(PARTS) - {"core"}

Edges = set[tuple[str, str]]


def room(module: str) -> str:
    """``weft.core.scene.record`` is in the room ``scene``, ``weft.zoo.judge`` in the part ``zoo``."""
    parts = module.split(".")
    return parts[2] if parts[1] == "core" and len(parts) > 2 else parts[1]


def imports_between_rooms() -> Edges:
    graph = grimp.build_graph("weft", include_external_packages=False)
    return {
        (room(module), room(imported))
        for module in graph.modules
        if module.count(".") > 0
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.count(".") > 0
        and room(module) != room(imported)
        and {room(module), room(imported)} <= ROOMS
    }


def reduced(edges: Edges) -> Edges:
    """The edges that no path of others stands for."""
    onward: dict[str, set[str]] = {}
    for start, end in edges:
        onward.setdefault(start, set()).add(end)

    def reaches(start: str, end: str, without: tuple[str, str]) -> bool:
        return any(
            step == end or reaches(step, end, without)
            for step in onward.get(start, ())
            if (start, step) != without
        )

    return {edge for edge in edges if not reaches(*edge, without=edge)}


def drawn() -> Edges:
    (drawing,) = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs" / "design.md").read_text(), re.DOTALL)
    return set(re.findall(r"^ *(\w+) --> (\w+)$", drawing, re.MULTILINE))


def test_the_drawing_of_the_rooms_shows_the_imports() -> None:
    actual = reduced(imports_between_rooms())
    assert drawn() == actual, "\n".join(
        ["draw:", *(f"    {start} --> {end}" for start, end in sorted(actual))]
    )


def test_every_room_is_drawn() -> None:
    assert {name for edge in drawn() for name in edge} == ROOMS


def test_nothing_but_the_four_lies_at_the_root_of_the_core() -> None:
    assert {path.name for path in (ROOT / "core").glob("*.py")} == OF_THE_CORE


def promises() -> Mapping[str, Path]:
    """Modules whose docstring ends in "Free of torch."; and every plugin's, as all of them promise it."""
    found = {}
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            head = path.read_text()[:4000].split('"""')[1:2]
            if head and "Free of torch." in head[0]:
                found[
                    ".".join(["weft", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(
                        ".__init__"
                    )
                ] = path
    return found


def test_what_promises_to_be_free_of_torch_is() -> None:
    """import-linter cannot tell an import within a function, which is late on purpose, so the modules are imported."""
    modules = promises()
    assert len(modules) > 30
    code = (
        "import importlib, sys\n"
        f"for name in {list(modules)!r}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'{name} imports torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
