"""Distributions in a folder: as pip leaves them, for tests of what is found, and packages that pip installs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def install_package(package: Path, target: Path) -> dict[str, str]:
    """Install a package into a folder, without a network, and give the environment in which it is there."""
    options: list[str | Path] = ["--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", target, package]
    subprocess.run(command, check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *sys.path])}


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
