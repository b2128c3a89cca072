"""The wheel: it holds every file, draws from wherever it is installed, and does so with the oldest libraries too."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PARTS = ["core", "plugins", "kernels", "zoo", "cli"]

LARGE = {"torch", "torchvision", "triton", "diffusers", "transformers", "open_clip_torch"}
"""Gigabytes, or bound to the version of one that is; those of the lock are used."""

DRAW = """
import hashlib, sys
sys.modules.update(dict.fromkeys(["accelerate", "matplotlib", "ray"]))  # extras, as if they were not installed
import weft
star = weft.Subject("star", box=(0.5, 0.0, 1.0, 1.0))
scene = weft.Scene("a red star on grass", subjects=(star,))
result = weft.load("tiny").generate(scene, ["grounding"], [weft.ClassifierFree(3.0)], steps=2, seeds=[0])
print(weft.__file__, hashlib.sha256(result.images[0].tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return path


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        packed = {name for name in opened.namelist() if ".dist-info/" not in name}
    listed = subprocess.run(["git", "ls-files", *PARTS, "src/weft"], cwd=ROOT, capture_output=True, text=True)
    tracked = [path for path in listed.stdout.splitlines() if not (ROOT / path).is_symlink()]
    wanted = {"weft/" + path.removeprefix("src/weft/") for path in tracked}
    assert len(wanted) > 20
    assert wanted <= packed


def installed(folder: Path, *what: str) -> Path:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", folder, *what]
    subprocess.run(command, check=True, timeout=600)
    return folder


def drawn(folder: Path, *paths: Path) -> list[str]:
    """Where the package is, and the digest of an image that it draws without any extra."""
    path = os.pathsep.join(map(str, paths))
    done = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_installed_it_draws_the_image_of_the_sources(wheel: Path, tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "--no-deps", str(wheel))
    place, digest = drawn(tmp_path, site)
    assert Path(place).is_relative_to(site)
    _, expected = drawn(tmp_path, ROOT / "src")
    assert digest == expected


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_draws_with_the_oldest_libraries_of_its_ranges(wheel: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    light = [one for one in map(Requirement, project["dependencies"]) if one.name not in LARGE]
    libraries = installed(tmp_path / "libraries", "--resolution", "lowest-direct", *map(str, light))
    for one in light:
        (found,) = distributions(name=one.name, path=[str(libraries)])
        stated = min(Version(limit.version) for limit in one.specifier)
        assert Version(found.version).release[: len(stated.release)] == stated.release
    site = installed(tmp_path / "site", "--no-deps", str(wheel))
    place, _ = drawn(tmp_path, site, libraries)
    assert Path(place).is_relative_to(site)
