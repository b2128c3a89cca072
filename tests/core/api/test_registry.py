"""The registry: strangers' plugins come through the same door, and a broken one stops nobody."""

from __future__ import annotations

import ast
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import weft
from weft.core.api.registry import Registry, registry

GOOD = """
    from typing import ClassVar
    import weft
    from weft.core.api.branches import LinearForm

    @weft.record
    class Doubled(weft.Guidance):
        '''Doubles and takes back.'''
        name: ClassVar[str] = "{name}"
        neutral: ClassVar = {{}}

    @weft.hookimpl
    def weft_plugins():
        return [Doubled]
"""
BROKEN = {
    "raises": "raise RuntimeError('no such library')",
    "not_a_plugin": "import weft\n@weft.hookimpl\ndef weft_plugins():\n    return [int]",
    "unknown_hook": "import weft\n@weft.hookimpl\ndef weft_plugin():\n    return []",
    "misnamed": textwrap.dedent(GOOD).format(name="another"),
    "undecorated": (
        "import weft\nclass P(weft.Guidance):\n    name = 'undecorated'\n    neutral = {}\n"
        "@weft.hookimpl\ndef weft_plugins():\n    return [P]"
    ),
}


class Distribution:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def point(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, source: str, distribution: str = "stranger", module: str | None = None) -> EntryPoint:
        module = module or f"stranger_{name}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        sys.modules.pop(module, None)
        made = EntryPoint(name, module, "weft")
        vars(made)["dist"] = Distribution(distribution)
        return made

    return make


def test_a_stranger_is_found_by_name(point) -> None:
    found = Registry([point("doubled", GOOD.format(name="doubled"))]).plugin("doubled", "guidance")
    assert found.name == "doubled"
    assert found.summary() == "Doubles and takes back."


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_reported_and_stops_nobody(point, kind) -> None:
    both = Registry(
        [point(kind, BROKEN[kind], "broken-things"), point("doubled", GOOD.format(name="doubled"))]
    )
    assert [item.name for item in both.plugins()] == ["doubled"]
    (report,) = both.broken()
    assert (report.name, report.distribution) == (kind, "broken-things")
    with pytest.raises(weft.PluginError, match="broken-things"):
        both.plugin(kind, "guidance")


def test_two_plugins_of_one_name_name_both_distributions(point) -> None:
    source = GOOD.format(name="doubled")
    both = Registry([point("doubled", source, "first", "one"), point("doubled", source, "second", "two")])
    with pytest.raises(weft.PluginError, match=r"first.*second"):
        both.plugin("doubled", "guidance")


def test_a_run_loads_only_what_it_names(point) -> None:
    some = Registry([point("doubled", GOOD.format(name="doubled")), point("raises", BROKEN["raises"])])
    some.plugin("doubled", "guidance")
    assert some.broken() == []
    assert "stranger_raises" not in sys.modules


def test_wrong_names_and_kinds() -> None:
    with pytest.raises(weft.UserError, match=r"Did you mean 'classifier_free'\?"):
        registry().plugin("clasifier_free", "guidance")
    with pytest.raises(weft.UserError, match="which is a guidance"):
        registry().plugin("classifier_free", "conditioner")


def test_built_ins_use_the_same_door() -> None:
    found = {item.name: item.distribution for item in registry().plugins()}
    assert found["classifier_free"] == "weft"
    assert registry().broken() == []


def test_every_hook_and_plugin_is_documented() -> None:
    from weft.core.api import hookspecs

    for name in ("weft_plugins", "weft_models", "weft_metrics"):
        text = getattr(hookspecs, name).__doc__
        assert "Called by" in text
        assert "None means" in text
    for item in registry().plugins():
        assert item.value.summary().endswith((".", ")")), item.name


def test_the_core_names_no_plugin_but_the_default() -> None:
    core = Path(weft.__file__).parent / "core"
    names = {found.name for found in registry().plugins()}
    mentions = {
        (path.relative_to(core).as_posix(), name)
        for path in sorted(core.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in names
        if node.value == name or ("_" in name and name in node.value)
    }
    assert mentions == {("api/guidance.py", "classifier_free")}
