"""The commands, and the way every one of them ends: 0 is well, 2 a user's mistake, 3 a part failed, 130 interrupted."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from .. import __version__

P = ParamSpec("P")


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    BUG = 1
    USER_ERROR = 2
    PARTIAL = 3
    INTERRUPTED = 130


class Engines(StrEnum):
    """Where pictures are drawn."""

    LOCAL = "local"
    RAY = "ray"


app = typer.Typer(
    help="Compose conditions over one frozen diffusion UNet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well, 2 a mistake to mend, 3 some pictures failed, 130 interrupted.",
)
plugins = typer.Typer(no_args_is_help=True, help="What can be composed.")
app.add_typer(plugins, name="plugins")

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the pictures; made when it is not there.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Override a setting, as in sampler.steps=20; repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunFileArgument = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="A run file.")]


def command(run: Callable[P, Exit]) -> Callable[P, None]:
    """End a command with its exit code, and turn what it raises into a message."""

    @functools.wraps(run)
    def guarded(*args: P.args, **options: P.kwargs) -> None:
        from ..core.errors import WeftError
        from .show import print_error

        try:
            code = run(*args, **options)
        except WeftError as error:
            print_error(error)
            code = Exit.USER_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = Exit.INTERRUPTED
        except (typer.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("WEFT_DEBUG"):
                raise
            print(f"a bug in weft, or in a plugin: {type(error).__name__}: {error}", file=sys.stderr)
            print("Set WEFT_DEBUG=1 to see where.", file=sys.stderr)
            code = Exit.BUG
        raise typer.Exit(code)

    return guarded


def _version(wanted: bool) -> None:
    if wanted:
        print(f"weft {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


@app.command()
@command
def demo(output: Output = Path("runs/demo")) -> Exit:
    """Draw pictures with the model that ships with weft."""
    from .demo import draw_demo

    return draw_demo(output)


@app.command()
@command
def generate(
    run_file: RunFileArgument,
    output: Output = Path("outputs"),
    overrides: Overrides = None,
    engine: Annotated[Engines, typer.Option(help="Where pictures are drawn.")] = Engines.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of Ray; one a GPU, or one a node without GPUs, by default.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; RAY_ADDRESS, or this machine, by default.")
    ] = None,
) -> Exit:
    """Draw what a run file describes and is not there yet. Finished pictures stay when Ctrl-C is pressed."""
    from .generate import generate_run

    return generate_run(run_file, output, overrides or (), engine.value, ray_address, workers)


@app.command()
@command
def validate(
    run_files: Annotated[list[Path], typer.Argument(metavar="RUN.yaml...", help="Run files.")],
    overrides: Overrides = None,
) -> Exit:
    """Check run files without drawing anything: every mistake at once, with its line."""
    from .validate import validate_runs

    return validate_runs(run_files, overrides or ())


@app.command()
@command
def preview(
    run_file: RunFileArgument, output: Output = Path("previews"), overrides: Overrides = None
) -> Exit:
    """Draw the boxes, masks and reference pictures of a run file, before anything is sampled."""
    from .preview import preview

    return preview(run_file, output, overrides or ())


@app.command("show")
@command
def show_(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures.")]) -> Exit:
    """Make a page of a folder's pictures, which opens in a browser without a server."""
    from .gallery import show

    return show(folder)


@app.command()
@command
def repro(
    picture: Annotated[Path, typer.Argument(metavar="IMAGE.png", help="A picture that weft drew.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the new picture.")
    ] = None,
) -> Exit:
    """Draw a picture again from what it carries, after its digests are checked, and compare."""
    from .repro import repro

    return repro(picture, output)


@app.command()
@command
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; printed when it is not given.")
    ] = None,
) -> Exit:
    """Print the JSON Schema of run files, with the plugins that are installed, for editors."""
    from .schema import write_schema

    return write_schema(output)


@app.command()
@command
def models(as_json: AsJson = False) -> Exit:
    """List the models that can be loaded by name, and check their files."""
    from .inspect import list_models

    return list_models(as_json)


@plugins.command("list")
@command
def list_(as_json: AsJson = False) -> Exit:
    """List conditioners and guidance strategies with their parameters, and plugins that are broken."""
    from .inspect import list_plugins

    return list_plugins(as_json)
