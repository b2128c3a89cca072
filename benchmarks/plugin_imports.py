"""What do installed plugins cost a run that does not name them?

Each figure is of a process of its own that looks up what `weft validate` does: a conditioner, a guidance strategy and
a model. None is installed beside Weft's own, or twenty, of which one is named and the others end the process when they
are imported. The three cases are measured in turns; the time is the processor's, which other processes disturb least.

    python benchmarks/plugin_imports.py
    python benchmarks/plugin_imports.py --rounds 2 --dry
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"
INSTALLED: Final = 20
PLUGIN: Final = """
from weft import plugin
@plugin.record
class Sound(plugin.Guidance):
    '''Changes nothing.'''
    name = {name!r}
    neutral = {{}}
@plugin.hookimpl
def weft_plugins():
    return [Sound]
"""
LOOK_UP: Final = """
import sys, time
sys.path[:0] = {paths!r}
start = time.process_time()
from weft.core.api.registry import registry
registry().plugin({name!r}, "guidance")
registry().plugin("grounding", "conditioner")
registry().model("tiny")
print(1000 * (time.process_time() - start))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dry", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        for number in range(INSTALLED):
            install(site, f"plugin_{number}", "" if number == 0 else "import os; os._exit(1)")
        cases = {
            "none installed": ([], "classifier_free"),
            f"{INSTALLED} installed, none named": ([folder], "classifier_free"),
            f"{INSTALLED} installed, one named": ([folder], "plugin_0"),
        }
        times: dict[str, list[float]] = {case: [] for case in cases}
        for _ in range(given.rounds + 1):  # the first round leaves compiled modules
            for case, (paths, name) in cases.items():
                times[case].append(look_up(paths, name))
    measured = {case: statistics.median(values[1:]) for case, values in times.items()}
    result = {
        "command": f"python benchmarks/plugin_imports.py --rounds {given.rounds}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "versions": {"python": platform.python_version()},
        "median_ms": measured,
        "least_ms": {case: min(values[1:]) for case, values in times.items()},
    }
    text = table(result)
    print(text)
    if not given.dry:
        (RESULTS / "plugin_imports.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / "plugin_imports.md").write_text(text)


def install(site: Path, name: str, start: str) -> None:
    """Write a distribution as pip leaves it."""
    (site / f"{name}_module.py").write_text(start + PLUGIN.format(name=name))
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[weft]\n{name} = {name}_module\n")


def look_up(paths: list[str], name: str) -> float:
    """Milliseconds of processor time from the start of the imports to the last look-up."""
    program = LOOK_UP.format(paths=paths, name=name)
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def table(result: dict[str, Any]) -> str:
    least, base = result["least_ms"], result["median_ms"]["none installed"]
    lines = [
        "# Installed plugins that a run does not name", "",
        f"Milliseconds of a processor to look up a strategy, a conditioner and a model, with Weft's own imports; "
        f"{result['machine']}.", "",
        "| plugins | median, ms | least, ms | median, more than none |", "|---|---|---|---|",
    ]  # fmt: skip
    for case, median in result["median_ms"].items():
        lines.append(f"| {case} | {median:.0f} | {least[case]:.0f} | {median - base:+.1f} |")
    return "\n".join([*lines, "", f"`{result['command']}`, Python {result['versions']['python']}.", ""])


if __name__ == "__main__":
    main()
