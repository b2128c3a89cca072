"""The code of the plugin guide is run: its plugins pass the contract, and its links lead somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import weft
from weft.core.registry import Registry
from weft.core.testing import CHECKS, Case
from weft.testing import random_pipeline

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "writing-a-plugin.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", GUIDE, re.DOTALL))
MARKDOWN = [path for path in ROOT.rglob("*.md") if not {".venv", "runs"} & set(path.relative_to(ROOT).parts)]


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
    assert len(CHECKS) == GUIDE.split("The checks:")[1].split(".")[0].count(",") + 2


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), target
