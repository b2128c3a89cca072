"""The code of the plugin guide is run: its plugins pass the contract, and its links lead somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import weft
from weft.core.api.registry import Registry, registry
from weft.core.runfile.read import read_run_file
from weft.core.testing import CHECKS, Case
from weft.testing import random_pipeline

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "writing-a-plugin.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", GUIDE, re.DOTALL))
MARKDOWN = [path for path in ROOT.rglob("*.md") if not {".venv", "runs"} & set(path.relative_to(ROOT).parts)]


README = (ROOT / "README.md").read_text()


def test_the_readmes_python_draws(monkeypatch, tmp_path) -> None:
    """As it stands there, but for the number of steps."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "steps=50" in code
    monkeypatch.chdir(ROOT)
    code = code.replace("steps=50", "steps=2").replace('"out/"', repr(str(tmp_path)))
    names: dict[str, object] = {}
    exec(code, names)
    assert [sample.seed for sample in names["result"].samples] == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("*.png"))) == 4


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
@pytest.mark.parametrize("plugin", ["rising_guidance", "boxed_words"], indirect=True)
def test_the_guides_plugins_pass_the_contract(plugin, check) -> None:
    check(plugin, Case())


@pytest.mark.parametrize("plugin", ["boxed_words"], indirect=True)
def test_the_guides_error_is_clear(plugin) -> None:
    with pytest.raises(weft.UserError, match="boxed_words: expected a subject with a box"):
        random_pipeline().generate(weft.Scene("a toy"), [plugin], steps=1)


def test_the_guide_lists_every_check() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE)
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
