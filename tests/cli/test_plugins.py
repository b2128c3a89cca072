"""`weft plugins`: what is installed is looked at from outside, and a new package is right as it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from helpers.installed import install, install_package
from typer.testing import CliRunner, Result

import weft
from weft.cli.app import app
from weft.cli.inspection import inspect, process
from weft.cli.plugin_template import Kind, plugin_package
from weft.core.api.plugin_loading import load_file, offer_of
from weft.core.api.registry import registry
from weft.core.testing import checks

SOUND = """
    from weft import plugin

    @plugin.record
    class Sound(plugin.Guidance):
        '''Changes nothing.'''
        name = "NAME"
        neutral = {}
        scene_fields = frozenset()

    @plugin.hookimpl
    def weft_plugins():
        return [Sound]
"""
CARD = """
    from pathlib import Path
    from weft import plugin

    @plugin.hookimpl
    def weft_models():
        return {"tiny": plugin.ModelCard("another", Path("nowhere"))}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.cache_clear()
    yield tmp_path
    registry.cache_clear()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def sound(name: str) -> str:
    return SOUND.replace("NAME", name)


def listed() -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(run("plugins", "list", "--json").stdout)["plugins"]}


def test_the_list_outlives_what_is_installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "IMPORT_SECONDS", 8.0)
    for name, source in {
        "well": sound("well"),
        "exits": "import os; print('{}'); os._exit(0)",
        "leaves": "import sys; sys.exit(0)",
        "waits": "import time; time.sleep(1000)",
        "patches": "import builtins, weft; weft.Scene.images = builtins.sum = None" + "\n",
        "fusing": sound("fusing"),
        "tinier": CARD,
    }.items():
        install(site, name, source)
    rows = listed()
    assert rows["well"]["state"] == "ok"
    assert (rows["well"]["distribution"], rows["well"]["version"]) == ("weft-well", "1.2")
    assert 0.0 < rows["well"]["import_seconds"] < 8.0
    assert "exit code 0" in rows["exits"]["error"]
    assert "SystemExit: 0" in rows["leaves"]["error"]
    assert "not done after 8 s" in rows["waits"]["error"]
    assert rows["patches"]["error"] == "it replaces builtins.sum, weft.core.scene.scene.Scene.images"
    assert rows["tiny"]["error"] == "model 'tiny' is claimed by weft and by weft-tinier"
    problems = run("plugins", "list")
    assert problems.exit_code == 3
    assert (
        "conflict: 'fusing' of distribution 'weft-fusing': guidance 'fusing' is claimed by weft"
        in problems.stderr
    )
    schema, models = run("schema"), run("models")
    assert schema.exit_code == 3
    assert {"guidance.well", "guidance.fusing"} <= set(json.loads(schema.stdout)["definitions"])
    assert "broken, and not in it: 'waits' of distribution 'weft-waits'" in schema.stderr
    assert models.exit_code == 0
    assert "nowhere" not in models.stdout


def test_a_built_in_alone_is_well_and_says_how_long_it_took(site: Path) -> None:
    rows = listed()
    assert {row["state"] for row in rows.values()} == {"ok"}
    assert rows["fusing"]["import_seconds"] > 0.0
    assert rows["fusing"]["version"] == weft.__version__
    assert {"conditioner", "guidance", "model", "metric"} == {row["kind"] for row in rows.values()}


def test_the_doctor_checks_the_contract(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, and with few checks: the tests of the contract have all of them."""
    chosen = tuple(one for one in checks.CHECKS if "run_file" in one.__name__ or "documented" in one.__name__)
    monkeypatch.setattr(checks, "CHECKS", chosen)
    install(site, "bare", sound("bare").replace("'''Changes nothing.'''", ""))
    process.main("bare", "installed_weft_bare_bare", str(tmp_path / "seen.json"), "1")
    seen = json.loads((tmp_path / "seen.json").read_text())
    (bare,) = seen["registered"]
    assert list(bare["failures"]) == ["is_documented"], seen


@pytest.mark.slow
def test_the_doctor_is_called_with_names(site: Path) -> None:
    for name in ("well", "ill"):
        source = plugin_package(name, "guidance")[f"src/{name}/__init__.py"]
        install(
            site, name, source if name == "well" else source.replace("scale: at the first", "at the first")
        )
    registry.cache_clear()
    done = run("plugins", "doctor")
    assert done.exit_code == 3
    assert "well (weft-well 1.2): well, imported in" in done.stdout
    assert "ill, is_documented: AssertionError" in done.stdout
    assert run("plugins", "doctor", "well").exit_code == 0
    assert "Did you mean 'well'?" in run("plugins", "doctor", "wel").stderr


def test_an_installed_command_runs_and_a_broken_one_harms_no_other(site: Path) -> None:
    install(site, "greet", "def run(name: str) -> None:\n    print('hello', name)", "weft.commands")
    install(site, "leave", "import sys; sys.exit(0)", "weft.commands")
    install(site, "models", "raise RuntimeError", "weft.commands")
    assert run("greet", "you").stdout == "hello you\n"
    assert "greet" in run("--help").stdout
    assert run("models").exit_code == 0
    done = run("leave")
    assert done.exit_code == 2
    assert "plugin 'leave', distribution 'weft-leave': SystemExit: 0" in done.stderr


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_new_package_is_right_as_it_is_written(kind: Kind, site: Path) -> None:
    done = run("plugins", "new", "red_eyes", "--kind", kind, "-o", site)
    assert done.exit_code == 0, done.output
    folder = site / "weft-red-eyes"
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    module = folder / "src" / "red_eyes" / "__init__.py"
    assert written == set(plugin_package("red_eyes", kind))
    for command in (["check", "--select", "ANN,B,E,F,I,PT,RUF,SIM,UP"], ["format", "--check"]):
        ruff = subprocess.run(
            [sys.executable, "-P", "-m", "ruff", *command, "--isolated", "--line-length", "110", "."],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        assert ruff.returncode == 0, ruff.stdout
    if kind != "command":
        offer = offer_of(lambda: load_file(module))
        assert [*(one.name for one in offer.plugins), *offer.models, *offer.metrics] == ["red_eyes"]
    if kind != "model":
        arguments = [] if kind == "command" else ["--plugin", module]
        done = run("validate", folder / "example.yaml", *arguments)
        assert done.exit_code == 0, done.output
    registry.cache_clear()
    again = run("plugins", "new", "red_eyes", "--kind", kind, "-o", site)
    assert "a folder that is not there yet" in again.stderr


@pytest.mark.parametrize("name", ["fusing", "tiny", "json", "Red", "class", "two words"])
def test_a_name_that_cannot_be_is_refused(name: str, site: Path) -> None:
    done = run("plugins", "new", name, "-o", site)
    assert done.exit_code == 2
    assert f"found '{name}'" in done.stderr


def test_a_minimal_conditioner_is_fifteen_lines() -> None:
    lines = plugin_package("red_eyes", "conditioner")["src/red_eyes/__init__.py"].splitlines()
    docs = lines.index("    Args:") - 1, lines.index('    """') + 1
    code = [line for line in [*lines[: docs[0]], *lines[docs[1] :]] if line.strip()]
    assert len(code) <= 15, "\n".join(code)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_new_package_is_installed_and_green(kind: Kind, site: Path) -> None:
    """Without a network, as its README says, but into a folder."""
    run("plugins", "new", "red_eyes", "--kind", kind, "-o", site)
    package = site / "weft-red-eyes"
    environment = install_package(package, site / "target")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-c", "pyproject.toml"],
        cwd=package, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    name = "red_eyes"
    program = "from weft.cli import main; main()"
    arguments = ["red_eyes", "--help"] if kind == "command" else ["plugins", "list", "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_new_packages_are_typed(site: Path) -> None:
    names = [f"red_{kind}" for kind in get_args(Kind)]
    for kind in get_args(Kind):
        run("plugins", "new", f"red_{kind}", "--kind", kind, "-o", site)
    sources = os.pathsep.join(str(path) for path in site.glob("*/src"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mypy", "--strict", *(word for name in names for word in ("-p", name))],
        cwd=site, env={**os.environ, "MYPYPATH": sources}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
