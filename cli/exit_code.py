"""How every command ends: 0 is well, 2 a user's error, 3 a part failed, 130 interrupted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec

import typer

P = ParamSpec("P")


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    BUG = 1
    USER_ERROR = 2
    PARTIAL = 3
    INTERRUPTED = 130


def guarded(run: Callable[P, Exit]) -> Callable[P, None]:
    """End a command with its exit code, and turn what it raises into a message."""

    @functools.wraps(run)
    def ended(*args: P.args, **options: P.kwargs) -> None:
        from ..core.errors import WeftError
        from .printing import errors, print_error

        try:
            code = run(*args, **options)
        except WeftError as error:
            print_error(error)
            code = Exit.USER_ERROR
        except KeyboardInterrupt:
            errors.print("interrupted")
            code = Exit.INTERRUPTED
        except (typer.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("WEFT_DEBUG"):
                raise
            first, *_ = str(error).splitlines() or [""]
            what = f"{type(error).__name__}: {first}"
            errors.print(f"a bug in weft, or in a plugin: {what} Set WEFT_DEBUG=1 to see where.")
            code = Exit.BUG
        raise typer.Exit(code)

    return ended
