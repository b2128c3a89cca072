from pathlib import Path

import typer
from typer.testing import CliRunner

from {{ name }} import run


def test_it_counts(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("{version: 1, model: tiny, prompt: a toy, seeds: [0, 1, 2]}")
    app = typer.Typer()
    app.command()(run)
    assert CliRunner().invoke(app, [str(file)]).stdout == "3 of tiny\n"
