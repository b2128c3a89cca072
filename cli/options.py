"""Arguments and options that several commands take."""

from __future__ import annotations

import json
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
Device = Annotated[str | None, typer.Option(help="Where the model runs, such as cpu or cuda:1.")]
Dtype = Annotated[str | None, typer.Option(help="Of the model's parameters, such as float16.")]
Variant = Annotated[str | None, typer.Option(help="Of the model's files, such as fp16.")]
Vae = Annotated[Path | None, typer.Option(help="A file or a folder of another autoencoder.")]


def loading(device: str | None, dtype: str | None, variant: str | None, vae: Path | None) -> list[str]:
    """These options as overrides of a run file, whose own folder a path is not relative to."""
    place = None if vae is None else json.dumps(str(vae.expanduser().resolve()))
    chosen = {"device": device, "dtype": dtype, "variant": variant, "vae": place}
    return [f"{name}={value}" for name, value in chosen.items() if value is not None]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunFile = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="A run file.")]
