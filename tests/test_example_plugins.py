"""The example packages, as a third party has them: installed without a network, green, named by run files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.installed import install_package
from typer.testing import CliRunner

from weft.cli.app import app
from weft.core.api.plugin_loading import load_file, offer_of
from weft.core.api.registry import registry

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "plugins"
PACKAGES = sorted(path.parent for path in FOLDER.glob("*/pyproject.toml"))


@pytest.fixture
def package(request: pytest.FixtureRequest) -> Iterator[Path]:
    registry.cache_clear()
    yield request.param
    registry.cache_clear()


every = pytest.mark.parametrize("package", PACKAGES, indirect=True, ids=lambda path: path.name)


def module(package: Path) -> Path:
    (path,) = package.glob("src/*/__init__.py")
    return path


def test_there_is_a_conditioner_an_energy_and_a_metric() -> None:
    offers = [offer_of(lambda path=path: load_file(module(path))) for path in PACKAGES]
    assert sorted(cls.kind for offer in offers for cls in offer.plugins) == ["conditioner", "guidance"]
    assert sum(len(offer.metrics) for offer in offers) == 1


@every
def test_its_run_file_is_right(package: Path) -> None:
    done = CliRunner().invoke(
        app, ["validate", str(package / "example.yaml"), "--plugin", str(module(package))]
    )
    assert done.exit_code == 0, done.output


@every
def test_ruff_is_content(package: Path) -> None:
    for command in (["check", "--select", "ANN,B,E,F,I,PT,RUF,SIM,UP"], ["format", "--check"]):
        ruff = subprocess.run(
            [sys.executable, "-P", "-m", "ruff", *command, "--isolated", "--line-length", "110", "."],
            cwd=package, capture_output=True, text=True,
        )  # fmt: skip
        assert ruff.returncode == 0, ruff.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every
def test_it_is_installed_and_green(package: Path, tmp_path: Path) -> None:
    environment = install_package(package, tmp_path / "target")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "--rootdir", package, "-o", "pythonpath=", package / "tests"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
