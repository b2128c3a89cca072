"""The package as a user meets it: light to import, one layout, true metadata."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError

import weft

ROOT = Path(__file__).resolve().parent.parent
PARTS = ["core", "plugins", "kernels", "zoo", "cli"]


def run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_importing_weft_and_describing_a_scene_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys, weft; weft.Scene('a toy', [weft.Subject('toy')]); sys.exit('torch' in sys.modules)"
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", PARTS)
def test_a_part_refuses_to_be_imported_under_its_bare_name(part: str) -> None:
    done = run(f"import {part}", ROOT)
    assert f"import 'weft.{part}'" in done.stderr


def test_the_root_of_the_repository_is_not_on_the_path() -> None:
    assert str(ROOT) not in sys.path


def test_python_started_in_the_root_finds_no_package_called_kernels() -> None:
    done = run("import weft, importlib.util as u; print(u.find_spec('kernels'))", ROOT)
    assert done.stdout == "None\n", done.stderr


def test_every_public_name_is_listed_and_found() -> None:
    assert set(vars(weft)["__all__"]) <= set(dir(weft))
    for name in vars(weft)["__all__"]:
        assert getattr(weft, name) is getattr(weft, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        weft.nope  # type: ignore[attr-defined]  # noqa: B018


def test_the_lock_holds_the_versions_that_the_project_states_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for pin in project["tool"]["uv"]["constraint-dependencies"]:
        assert f"\n{pin.lower().replace('_', '-')} " in lock
    assert "://" not in lock
    assert "--hash=sha256:" in lock


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {weft.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_entry_point_of_ours_is_installed() -> None:
    from importlib.metadata import entry_points

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = {entry.name: entry.value for entry in entry_points(group="weft")}
    assert project["project"]["entry-points"]["weft"].items() <= installed.items()


def test_shapes_and_types_are_checked_here() -> None:
    import torch

    from weft.core import errors
    from weft.kernels.cross_attention import reference
    from weft.plugins.guidance.attend_and_excite import _sums

    calls: dict[str, Callable[[], object]] = {
        "did_you_mean": lambda: errors.did_you_mean(3, ["a"]),
        "_sums": lambda: _sums(torch.ones(2, 3), [[0]]),
        "reference": lambda: reference(torch.ones(2, 3), None),
    }
    for name, call in calls.items():
        with pytest.raises(TypeCheckError, match=name):
            call()
