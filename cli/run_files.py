"""Reading run files for the commands: what nothing in them reads is a warning on stderr."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from ..core.api.registry import registry
from ..core.runfile.read import read_run_file
from ..core.runfile.run import Run
from ..core.scene.reading import SceneWarning
from .printing import print_warning


def read_runs(path: Path, overrides: Sequence[str] = (), plugin_files: Sequence[Path] = ()) -> list[Run]:
    """As `read_run_file`; its warnings are printed as errors are, with their lines.

    Args:
        plugin_files: are run first, so that the run file may name them.
    """
    run_plugin_files(plugin_files)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SceneWarning)
        runs = read_run_file(path, overrides=overrides)
    for one in caught:
        if isinstance(one.message, SceneWarning):
            print_warning(one.message.error)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return runs


def run_plugin_files(paths: Sequence[Path]) -> None:
    """Run the plugin files that the command line allows."""
    for path in paths:
        registry().add_file(path)
