"""What does a run file cost beside the Python API, and how many pictures a second do one and two Ray workers draw?

Overhead: in turns, `Pipeline.generate` with the pictures saved as plain PNG, and `weft generate`'s own work on a run
file of the same pictures with the same loaded model: reading, planning, hashing, drawing, provenance, manifest and
sheet. A round gives one ratio of the two; which goes first alternates.

Throughput: in turns, one worker and two, on a Ray cluster of this machine, each with as many threads as the other. The
time runs from the moment when every worker has handed in its first batch, which it does with its model loaded, to the
last picture.

    python benchmarks/throughput.py                       # about half an hour on two idle cores
    python benchmarks/throughput.py --rounds 1 --steps 2 --seeds 2 --workers 0 --dry
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
from PIL import Image

import weft
from weft.cli.commands import generate as command
from weft.core.api.generation_settings import GenerationSettings
from weft.core.errors import WeftError
from weft.core.jobs.engines.local import LocalEngine
from weft.core.jobs.events import Listener
from weft.core.jobs.job import Item, plan
from weft.core.runfile.read import read_run_file

RESULTS: Final = Path(__file__).parent / "results"
BAR_PERCENT: Final = 2.0
BATCH: Final = 4
RUN: Final = """\
version: 1
model: tiny
prompt: a red ball and a blue star on sand
sampler: {{steps: {steps}, batch_size: {batch}}}
seeds: {{count: {seeds}}}
"""


def overhead(rounds: int, steps: int, seeds: int) -> dict[str, Any]:
    """Seconds of the API and of a run file, round by round, and the median of their ratios."""
    pipe = weft.load("tiny")
    scene = weft.Scene("a red ball and a blue star on sand")

    def by_api(folder: Path) -> None:
        options: dict[str, Any] = {"steps": steps, "seeds": range(seeds), "batch_size": BATCH}
        made = pipe.generate(scene, attention=False, **options)
        for number, image in enumerate(made.images):
            image.save(folder / f"{number}.png")

    def by_run_file(folder: Path) -> None:
        path = folder / "run.yaml"
        path.write_text(RUN.format(steps=steps, batch=BATCH, seeds=seeds))
        engine = LocalEngine(lambda name: pipe)
        with (
            mock.patch.object(command, "make_engine", return_value=engine),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            code = command.run(path, folder / "out")
        assert code == 0, code
        assert len(list((folder / "out").glob("*-seed*.png"))) == seeds

    ways = {"api": by_api, "run file": by_run_file}
    for way in ways.values():  # what is read once a process is nobody's
        seconds(way)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        order = list(ways) if number % 2 == 0 else list(reversed(ways))
        for name in order:
            found[name].append(seconds(ways[name]))
    ratios = [file / api for file, api in zip(found["run file"], found["api"], strict=True)]
    return {
        "pictures": seeds,
        "steps": steps,
        "seconds": {name: [round(one, 3) for one in times] for name, times in found.items()},
        "overhead_percent": round(100 * (statistics.median(ratios) - 1), 2),
        "overhead_percent_of_each_round": [round(100 * (ratio - 1), 2) for ratio in ratios],
    }


def seconds(way: Callable[[Path], None]) -> float:
    with tempfile.TemporaryDirectory() as name:
        before = time.perf_counter()
        way(Path(name))
        return time.perf_counter() - before


class Clock(Listener):
    """When each picture came in."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def drawn(self, item: Item, image: Image.Image, settings: GenerationSettings) -> None:
        self.times.append(time.perf_counter())

    def failed(self, items: Sequence[Item], error: WeftError) -> None:
        raise error

    def working(self, done: float, text: str) -> None:
        pass


def throughput(workers: Sequence[int], rounds: int, steps: int, seeds: int) -> dict[str, Any]:
    """Pictures a second of so many workers, round by round, and the median of the ratios to the first number."""
    from weft.core.jobs.engines.ray import RayEngine

    if seeds < 2 * BATCH * max(workers):
        raise SystemExit(f"--seeds: at least {2 * BATCH * max(workers)} for {max(workers)} workers")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.yaml"
        path.write_text(RUN.format(steps=steps, batch=BATCH, seeds=seeds))
        items = plan(read_run_file(path))
    rates: dict[int, list[float]] = {count: [] for count in workers}
    for number in range(rounds):
        for count in workers if number % 2 == 0 else reversed(workers):
            clock = Clock()
            RayEngine(workers=count).draw(items, clock)
            first = count * BATCH
            rates[count].append((len(items) - first) / (clock.times[-1] - clock.times[first - 1]))
    base = rates[workers[0]]
    return {
        "pictures": seeds,
        "steps": steps,
        "pictures_a_second": {str(count): [round(one, 3) for one in rates[count]] for count in workers},
        "ratio": {
            str(count): round(statistics.median(a / b for a, b in zip(rates[count], base, strict=True)), 3)
            for count in workers
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="overhead of run files, and throughput of workers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50, help="the default of run files, and of the API")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="0 leaves this part out")
    parser.add_argument("--dry", action="store_true", help="print, and keep nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the workers
    result: dict[str, Any] = {
        "command": f"python benchmarks/throughput.py --rounds {given.rounds} --steps {given.steps}"
        f" --seeds {given.seeds}",
        "bar": f"run files cost less than {BAR_PERCENT:g} % beside the API",
        "overhead": overhead(given.rounds, given.steps, given.seeds),
    }
    result["holds"] = result["overhead"]["overhead_percent"] < BAR_PERCENT
    if any(given.workers):
        result["throughput"] = throughput(given.workers, given.rounds, given.steps, given.seeds)
    result["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
    result["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    print(json.dumps(result, indent=2))
    if not given.dry:
        (RESULTS / "throughput.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
