"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the images; made when it is not there.")
]
OutputFile = Annotated[Path | None, typer.Option("--output", "-o", help="A file to write; none by default.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Override a setting, as in sampler.steps=20; repeatable."
    ),
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE.py", help="Run a plugin's file, so that it can be named; repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunFile = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="A run file.")]
