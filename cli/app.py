"""The command `weft`, whose commands are the files of the folder `commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .command_folder import CommandFolder

app = typer.Typer(
    cls=CommandFolder,
    help="Compose conditions over one frozen diffusion UNet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well, 2 an error to mend, 3 some images failed, 130 interrupted.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"weft {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass
