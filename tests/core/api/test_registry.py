"""The registry: strangers' plugins come through the same door, and a broken one stops nobody."""

from __future__ import annotations

import ast
import signal
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import weft
from weft.core.api.registry import Registry, is_built_in, registry

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
SLEEPY = "import time\ntime.sleep(60)"
MODELS = """
    import pathlib
    from weft.plugin import ModelCard, hookimpl

    @hookimpl
    def weft_models():
        return {{name: ModelCard("from outside", pathlib.Path("{folder}")) for name in {names}}}
"""
BROKEN = {
    "exits": "import sys\nprint('bye')\nsys.exit(0)",
    "interrupts": "raise KeyboardInterrupt",
    "cancels": "import asyncio\nraise asyncio.CancelledError",
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


def test_looking_up_a_model_or_a_metric_imports_no_other(point) -> None:
    some = Registry([point("sleepy", SLEEPY), point("own", MODELS.format(folder="there", names=["own"]))])
    card = some.model("own")
    assert card is not None
    assert card.summary == "from outside"
    assert some.model("a/hub-id") is None
    assert some.broken() == []
    assert "stranger_sleepy" not in sys.modules


def test_a_card_behind_another_name_is_found_when_nothing_has_its_name(point, tmp_path) -> None:
    some = Registry([point("pack", MODELS.format(folder="there", names=["first", "second"]))])
    (tmp_path / "second").mkdir()
    assert some.model("second", tmp_path) is None
    assert "stranger_pack" not in sys.modules
    assert some.model("first", tmp_path) is not None


def with_built_ins(*points: EntryPoint) -> Registry:
    return Registry([*(one for one in Registry().points if is_built_in(one)), *points])


def test_a_built_in_keeps_its_name(point) -> None:
    some = with_built_ins(
        point("fusing", GOOD.format(name="fusing")),
        point("pack", MODELS.format(folder="x", names=["tiny", "own"])),
    )
    assert some.plugin("fusing", "guidance") is weft.Fusing
    tiny = some.model("tiny")
    assert tiny is not None
    assert tiny.folder.name == "tiny"
    assert "stranger_fusing" not in sys.modules
    assert sorted(name for name in some.models() if name in ("tiny", "own")) == ["own", "tiny"]
    problems = {one.name: f"{one.distribution}: {one.problem}" for one in some.broken()}
    for name in ("fusing", "tiny"):
        assert "stranger: " in problems[name]
        assert "claimed by weft and by stranger" in problems[name]


def test_an_interrupt_from_outside_goes_through(point) -> None:
    press = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            Registry([point("pressed", press)]).plugins()
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_a_plugin_prints_leaves_stdout_alone(point, capfd) -> None:
    noisy = "print('hello')\n" + textwrap.dedent(GOOD).format(name="noisy")
    Registry([point("noisy", noisy)]).plugin("noisy", "guidance")
    assert capfd.readouterr() == ("", "hello\n")


def test_threads_that_ask_at_once_import_once(point) -> None:
    slow = "import time\ntime.sleep(0.2)\n" + textwrap.dedent(GOOD).format(name="doubled")
    some = Registry([point("doubled", slow)])
    with ThreadPoolExecutor(8) as pool:
        classes = list(pool.map(lambda _: some.plugin("doubled", "guidance"), range(8)))
    assert len(set(classes)) == 1


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
