"""The code of the plugin guide is run: its plugins pass the contract, and its links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import weft
import weft.plugin
from weft.cli.app import app
from weft.core.api import hookspecs
from weft.core.api.ports import Entry
from weft.core.api.registry import Registry, registry
from weft.core.runfile.read import read_run_file
from weft.core.testing import CHECKS, Case
from weft.testing import random_pipeline

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "writing-a-plugin.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", GUIDE, re.DOTALL))
MARKDOWN = [
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "runs", "reference", "site", "templates"} & set(path.relative_to(ROOT).parts)
]


README = (ROOT / "README.md").read_text()


def test_the_readmes_python_draws(monkeypatch, tmp_path) -> None:
    """As it stands there, but for the number of steps."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        assert "steps=50" in code
        exec(code.replace("steps=50", "steps=2").replace('"out/"', repr(str(tmp_path))), names)
    assert [sample.seed for sample in names["result"].samples] == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("*.png"))) == 4


@pytest.mark.parametrize("page", ["routing", "sampling"])
def test_the_pages_python_draws(page: str) -> None:
    """As it stands there, but for the number of steps, with the pipeline and the scenes that the page speaks of."""
    image = Image.new("RGB", (64, 64), "green")
    names: dict[str, Any] = {
        "weft": weft,
        "pipe": weft.load("tiny"),
        "scene": weft.Scene("a red ball on grass"),
        "edit": weft.Scene("a blue ball on grass", source=image),
    }
    codes = blocks(ROOT / "docs" / f"{page}.md", "python")
    assert codes
    for code in codes:
        exec(code.replace("steps=10", "steps=2"), names)


def test_the_readmes_run_file_is_right(tmp_path) -> None:
    """Paths in it are relative to its folder, which is the checkout for who follows the page."""
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    for folder in ("examples", "zoo"):
        (tmp_path / folder).symlink_to(ROOT / folder, target_is_directory=True)
    (tmp_path / "run.yaml").write_text(text)
    runs = read_run_file(tmp_path / "run.yaml")
    assert [run.seeds for run in runs] == [(0, 1, 2, 3)] * 5
    alphas = [0, 0.25, 0.5, 0.75, 1]
    assert [run.sweep for run in runs] == [{"guidance.0.alpha": alpha} for alpha in alphas]
    assert [run.guidance[0] for run in runs] == [weft.Fusing(alpha=alpha) for alpha in alphas]


def test_every_metric_is_described() -> None:
    page = (ROOT / "docs" / "run-files.md").read_text()
    names = registry().metrics()
    assert "objects" in names
    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.fixture
def plugin(request, tmp_path, monkeypatch):
    (tmp_path / f"{request.param}.py").write_text(BLOCKS[request.param])
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop(request.param, None)
    (cls,) = __import__(request.param).weft_plugins()
    return Registry([]).add(cls)()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("plugin", ["rising_guidance", "boxed_words", "dusk"], indirect=True)
def test_the_guides_plugins_pass_the_contract(plugin, check) -> None:
    check(plugin, Case())


@pytest.mark.parametrize("plugin", ["boxed_words"], indirect=True)
def test_the_guides_error_is_clear(plugin) -> None:
    with pytest.raises(weft.UserError, match="boxed_words: expected a subject with a box"):
        random_pipeline().generate(weft.Scene("a toy"), [plugin], steps=1)


def test_the_guide_lists_every_check() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", GUIDE.partition("| check |")[2], re.MULTILINE)
    assert listed == [check.__name__.removeprefix("check_") for check in CHECKS]


def test_the_pages_tables_are_those_of_the_benchmarks() -> None:
    measured = {
        line for file in ROOT.glob("benchmarks/results/*.md") for line in file.read_text().splitlines()
    }
    pages = (ROOT / "docs" / "plugins").glob("*.md")
    shown = [line for page in pages for line in page.read_text().splitlines() if re.match(r"\|.* % \(", line)]
    assert shown, "no page has a measured table"
    assert [line for line in shown if line not in measured] == []


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("plugin", registry().plugins(), ids=lambda plugin: plugin.name)
def test_every_built_in_plugin_has_its_page_and_its_test(plugin) -> None:
    if plugin.distribution == "weft":
        assert (ROOT / "docs" / "plugins" / f"{plugin.name}.md").is_file()
        assert list((ROOT / "tests" / "plugins").glob(f"*/test_{plugin.name}.py"))


DOCS = sorted((ROOT / "docs").glob("**/*.md"))
PAGES = [path for path in DOCS if not {"site", "reference"} & set(path.relative_to(ROOT / "docs").parts)]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_run_file_and_setting_of_a_page_is_right(path: Path, tmp_path: Path) -> None:
    """What is no whole run file is checked as settings of one whose scene has all that the pages use."""
    if path.name == "examples.md":
        pytest.skip("made of the files of examples/, which tests/test_examples.py draws")
    base = yaml.safe_load((ROOT / "tests" / "helpers" / "page.yaml").read_text())
    image = Image.new("RGB", (64, 64), "red")
    for number, text in enumerate(blocks(path, "yaml")):
        shown = yaml.safe_load(text)
        assert isinstance(shown, dict), text
        data = shown if "version" in shown else base | shown
        if "scenes" in data:
            data = {name: value for name, value in data.items() if name not in ("prompt", "subjects")}
        folder = tmp_path / "docs" / "pages" / str(number)
        folder.mkdir(parents=True)
        for name in re.findall(r"[\w./-]+\.(?:png|jpg|safetensors)", json.dumps(data)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(folder / name, format="PNG")
        for name in re.findall(r"[\w./-]+\.py\b", json.dumps(data)):
            (folder / name).write_text(DUSK)
            registry().add_file(folder / name)
        if "swatch" in text:
            registry().add_file(
                ROOT / "examples" / "plugins" / "weft-swatch" / "src" / "swatch" / "__init__.py"
            )
        (folder / "run.yaml").write_text(json.dumps(data))
        assert read_run_file(folder / "run.yaml")


DUSK = BLOCKS["dusk"].replace('name = "dusk"\n', 'name = "dusk"\n    words: str = "at dusk"\n')


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_page_is_one(path: Path) -> None:
    for text in [*blocks(path, "bash"), *blocks(path, "sh")]:
        for line in re.findall(r"^weft (.+)$", text, re.MULTILINE):
            words = line.split("#")[0].split()
            options = {word.split("=")[0] for word in words if word.startswith("-")}
            names = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
            shown = CliRunner().invoke(app, [*names, "--help"])
            assert shown.exit_code == 0, line
            assert options <= set(re.findall(r"-[-\w]+", shown.stdout)), line


def test_the_guides_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of its modules too; what is a test file is run by the tests of the contract above."""
    texts = blocks(ROOT / "docs" / "writing-a-plugin.md", "python")
    assert len(texts) >= 6
    for text in texts:
        if not text.startswith("# test_"):
            module = types.ModuleType("page")
            monkeypatch.setitem(sys.modules, "page", module)
            exec(text, vars(module))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_of_weft_in_a_pages_code_is_there(path: Path) -> None:
    for text in blocks(path, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("weft"):
                module = importlib.import_module(node.module or "")
                assert [one.name for one in node.names if not hasattr(module, one.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                holder = {"weft": weft, "plugin": weft.plugin}.get(node.value.id)
                assert holder is None or hasattr(holder, node.attr), f"{node.value.id}.{node.attr}"


def test_every_hook_and_port_has_its_page() -> None:
    guide, page = GUIDE, (ROOT / "docs" / "ports.md").read_text()
    hooks = [name for name in vars(hookspecs) if name.startswith("weft_")]
    assert len(hooks) >= 4
    assert [name for name in hooks if f"| `{name}` |" not in guide] == []
    entries = [cls.__name__ for cls in Entry.__subclasses__() if cls.__name__ in vars(weft.plugin)["__all__"]]
    assert len(entries) >= 9
    assert [name for name in entries if f"`{name}`" not in page] == []


def test_the_tutorials_code_is_that_of_the_package() -> None:
    page = ROOT / "docs" / "tutorial-plugin.md"
    package = ROOT / "examples" / "plugins" / "weft-swatch"
    texts = [text.partition("\n") for text in (*blocks(page, "python"), *blocks(page, "yaml"))]
    assert len(texts) == 4
    for first, _, text in texts:
        assert text == (package / first.removeprefix("# ")).read_text()


def test_the_comparisons_lines_are_counted() -> None:
    page = ROOT / "docs" / "comparison.md"
    shown = re.findall(r"^\| ([\w ]+) \| (\d+) lines .*? \| (\d+) lines", page.read_text(), re.MULTILINE)
    texts = [text.partition("\n") for text in blocks(page, "python")]
    counted: dict[str, Any] = {}
    for first, _, text in texts:
        lines = sum(1 for line in text.splitlines() if line.strip())
        counted.setdefault(first.removeprefix("# ").partition(":")[0], []).append(str(lines))
    assert {name: list(lines) for name, *lines in shown} == counted
    for first, _, text in texts:
        if first.startswith(("# Weft", "# diffusers")):
            names: dict[str, object] = {"__name__": "page"}
            exec(text, names)
            if "weft_plugins" in names:
                assert Registry([]).add(names["weft_plugins"]()[0])


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [
        sys.executable,
        "-P",
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        ROOT / "docs",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference" / "plugin.html").is_file()
