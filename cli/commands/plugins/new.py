"""Write a new plugin as a package: its code, its test, a README and an example run file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ....core.errors import UserError
from ....core.storage.atomic import make_folder, write_file
from ...exit_code import Exit
from ...plugin_template import Kind, distribution, plugin_package
from ...printing import out


def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the plugin and its module: red_eyes.")],
    kind: Annotated[Kind, typer.Option(help="What it is.")] = "conditioner",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder in which the package's folder is made.")
    ] = Path(),
) -> Exit:
    """Write the package into a new folder, and say what to do next."""
    files = plugin_package(name, kind)
    folder = output / distribution(name)
    if folder.exists():
        raise UserError("NAME", "a folder that is not there yet", f"'{folder}'")
    for path, text in files.items():
        make_folder((folder / path).parent, "--output")
        write_file(text.encode(), folder / path)
    out.print(f"{folder} is written. Next:", markup=False)
    out.print(f"  cd {folder} && pip install --editable . && pytest", markup=False)
    return Exit.OK
