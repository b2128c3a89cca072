"""Do all built-in plugins keep the contract, and does it catch plugins that do not?

The built-in ones are checked by their own tests, which know a model and a scene that suit each; this script runs those
and counts. The broken ones are here.

    python benchmarks/robustness/plugin_contract.py     # minutes
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import torch
from broken_plugins import BROKEN, Nudge
from robustness_helpers.figures import keep

from weft.core.api.plugin import Plugin
from weft.core.api.registry import registry
from weft.core.testing import CHECKS, Case, random_pipeline

ROOT = Path(__file__).resolve().parents[2]


def refusal(check: Any, plugin: Plugin) -> str:
    """What a check says against a plugin, on a model of its own, as a broken plugin may harm it; empty for nothing."""
    random_pipeline.cache_clear()
    try:
        check(plugin, Case())
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    finally:
        random_pipeline.cache_clear()
    return ""


def catch() -> dict[str, str]:
    """What every check says against the plugin that is broken for it."""
    named = {check.__name__.removeprefix("check_"): check for check in CHECKS}
    assert named.keys() == BROKEN.keys()
    return {name: refusal(check, BROKEN[name]()) for name, check in named.items()}


def sound() -> dict[str, str]:
    """What checks say against the plugin that the broken ones are made from, which is nothing."""
    said = {check.__name__: refusal(check, Nudge()) for check in CHECKS}
    return {name: text for name, text in said.items() if text}


def built_in() -> dict[str, Any]:
    """How many checks of built-in plugins passed, by their own tests."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "contract",
            "tests/plugins",
            f"--junit-xml={report}",
        ]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL, env=None)
        cases = list(xml.parse(report).iter("testcase"))
    failed = [case.get("name", "") for case in cases if len(case) and case[0].tag in ("failure", "error")]
    names = {case.get("name", "").partition("[")[2].partition("-")[0] for case in cases}
    known = {item.name for item in registry().plugins()}
    return {
        "checks": len(CHECKS),
        "plugins": len(names & known),
        "plugins_without_a_contract_test": sorted(known - names),
        "passed": len(cases) - len(failed),
        "failed": failed,
    }


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, Any] = {**built_in(), "sound_and_refused": sound(), "broken_plugins_caught_by": catch()}
    holds = (
        not found["failed"]
        and not found["plugins_without_a_contract_test"]
        and not found["sound_and_refused"]
        and all(found["broken_plugins_caught_by"].values())
    )
    bar = f"{len(CHECKS)} checks x every built-in plugin, and {len(BROKEN)} broken plugins all caught"
    keep("plugin_contract", bar, holds, found)


if __name__ == "__main__":
    main()
