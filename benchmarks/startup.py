"""How long does Weft take to start, and how much memory does a generation need at its peak?

Each figure is of processes of their own, Weft's and diffusers' in turns; memory is the largest resident set.

    python benchmarks/startup.py                       # about 5 minutes on idle cores
    python benchmarks/startup.py --rounds 1 --steps 1 --dry
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"
PROMPT: Final = "a red ball on grass"
OURS: Final = "import weft; pipe = weft.load('tiny')"
THEIRS: Final = (
    "import diffusers, weft.zoo; from pathlib import Path; folder = Path(weft.zoo.__file__).parent / 'tiny'; "
    "pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)"
)
DRAW: Final = "; pipe.generate(weft.Scene({prompt!r}), steps={steps}, seeds=range({images}), attention=False)"
THEIR_DRAW: Final = "; pipe([{prompt!r}] * {images}, num_inference_steps={steps})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--dry", action="store_true")
    given = parser.parse_args()
    programs = {
        "import weft": "import weft",
        "describe a scene": "import weft; weft.Scene('a toy', [weft.Subject('toy')])",
        "load tiny": OURS,
        "load tiny in diffusers": THEIRS,
    }
    for images in (1, 4):
        options = {"prompt": PROMPT, "steps": given.steps, "images": images}
        programs[f"draw {images}"] = OURS + DRAW.format(**options)
        programs[f"draw {images} in diffusers"] = THEIRS + THEIR_DRAW.format(**options)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(given.rounds):
        for name, program in programs.items():
            found[name].append(run(program))
    import torch

    result = {
        "command": f"python benchmarks/startup.py --rounds {given.rounds} --steps {given.steps}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "measured": {
            name: {"seconds": statistics.median(s for s, _ in pairs), "peak_mb": max(m for _, m in pairs)}
            for name, pairs in found.items()
        },
    }
    text = table(result)
    print(text)
    if not given.dry:
        (RESULTS / "startup.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / "startup.md").write_text(text)


def run(program: str) -> tuple[float, float]:
    """Seconds, and megabytes at the peak."""
    report = "\nimport resource, sys; print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-c", program + report], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    return seconds, int(done.stdout.split("peak")[-1]) / 1024.0


def table(result: dict[str, Any]) -> str:
    lines = [
        "# Start-up time and peak memory", "",
        f"Whole processes, median time and largest memory of some; {result['machine']}.", "",
        "| | seconds | peak, MB |", "|---|---|---|",
    ]  # fmt: skip
    for name, one in result["measured"].items():
        lines.append(f"| {name} | {one['seconds']:.2f} | {one['peak_mb']:.0f} |")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join([*lines, "", f"`{result['command']}`, {versions}.", ""])


if __name__ == "__main__":
    main()
