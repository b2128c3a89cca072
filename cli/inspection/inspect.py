"""Starting the processes that inspect plugins, each with a time limit, and comparing the names that they report."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

from ...core.api.registry import ARGUMENTS, Registry, distribution_name, is_built_in
from .seen import Registered

IMPORT_SECONDS = 10.0
CONTRACT_SECONDS = 300.0
PROCESSES = 2


@dataclass(frozen=True)
class Inspection:
    """What was seen of one entry point.

    Args:
        state: broken when it does not import or replaces what is not its own; conflict when a name is another's.
        error: why it is broken, or who has the name.
        import_seconds: None when its process did not live to report.
        notes: what it does at import that others can notice.
    """

    name: str
    distribution: str
    version: str
    state: Literal["ok", "broken", "conflict"]
    error: str
    import_seconds: float | None
    registered: tuple[Registered, ...] = ()
    notes: tuple[str, ...] = ()


def inspect_all(
    registry: Registry, names: Sequence[str] = (), contract: bool = False, limit: float | None = None
) -> list[Inspection]:
    """Inspect the entry points of other distributions, or those of these names.

    Args:
        contract: run the checks of the plugin contract too.
        limit: seconds for each; 10 for an import and 300 for the contract, by default.
    """
    limit = limit or (CONTRACT_SECONDS if contract else IMPORT_SECONDS)
    points = [one for one in registry.points if (one.name in names if names else not is_built_in(one))]
    inspect_one = functools.partial(inspect, contract=contract, limit=limit)
    with ThreadPoolExecutor(PROCESSES) as pool:
        seen = list(pool.map(inspect_one, points))
    ours = [(item.name, item.kind, item.distribution) for item in registry.loaded()]
    theirs = [(part.name, part.kind, one.distribution) for one in seen for part in one.registered]
    return [_with_conflicts(one, [*ours, *theirs]) for one in seen]


def sound(registry: Registry) -> tuple[Registry, list[Inspection]]:
    """The built-ins and what can be imported beside them, and what cannot."""
    broken = [one for one in inspect_all(registry) if one.state == "broken"]
    left_out = {(one.name, one.distribution) for one in broken}
    points = [
        one for one in registry.points
        if is_built_in(one) or (one.name, distribution_name(one)) not in left_out
    ]  # fmt: skip
    return Registry(points), broken


def inspect(point: EntryPoint, contract: bool, limit: float) -> Inspection:
    """Import one entry point in a process of its own."""
    seen, error = {}, ""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "seen.json"
        program = f"import sys; sys.path[:] = {sys.path!r}; from {__package__}.process import main; main(*sys.argv[1:])"
        command: list[str | Path] = [
            sys.executable,
            "-P",
            "-c",
            program,
            point.name,
            point.value,
            target,
            str(int(contract)),
        ]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit)
            error = f"it ended its process with exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            error = f"it was not done after {limit:g} s"
        if target.is_file():
            seen = json.loads(target.read_text(encoding="utf-8"))
            error = seen["error"]
    return Inspection(
        name=point.name,
        distribution=distribution_name(point),
        version="" if point.dist is None else point.dist.version,
        state="broken" if error else "ok",
        error=error,
        import_seconds=seen.get("seconds"),
        registered=tuple(Registered(**one) for one in seen.get("registered", ())),
        notes=tuple(seen.get("notes", ())),
    )


def _with_conflicts(one: Inspection, claims: Sequence[tuple[str, str, str]]) -> Inspection:
    clashes = [
        f"{part.kind} '{part.name}' is claimed by {distribution} and by {one.distribution}"
        for part in one.registered
        for name, kind, distribution in claims
        if name == part.name and _names_of(kind) == _names_of(part.kind) and distribution != one.distribution
    ]
    if one.state != "ok" or not clashes:
        return one
    return dataclasses.replace(one, state="conflict", error="; ".join(clashes))


def _names_of(kind: str) -> str:
    """Conditioners and guidance strategies share one set of names."""
    return "plugin" if kind in ARGUMENTS else kind
