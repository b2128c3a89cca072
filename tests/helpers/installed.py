"""Distributions as pip leaves them, for tests of what is found: metadata and a module in a folder."""

from __future__ import annotations

import textwrap
from pathlib import Path


def install(folder: Path, name: str, source: str, group: str = "weft", distribution: str = "") -> None:
    """Write a distribution with one entry point, ``name``, of a module called ``installed_<name>``."""
    distribution = distribution or f"weft-{name}"
    value = f"installed_{distribution.replace('-', '_')}_{name}"
    (folder / f"{value}.py").write_text(textwrap.dedent(source))
    metadata = folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    target = f"{value}:run" if group == "weft.commands" else value
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
