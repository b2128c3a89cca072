"""Does `weft generate` keep its memory over many images?

python benchmarks/robustness/memory.py --count 500     # a minute
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from robustness_helpers.figures import keep

from weft.cli.commands.generate import run as generate
from weft.core.jobs.output_folder import Store
from weft.testing import random_model

RUN = """\
version: 1
model: model
prompt: a toy and a star
guidance: [attend_and_excite, classifier_free]
subjects: [{{phrase: toy}}, {{phrase: star}}]
sampler: {{steps: 1, batch_size: 4}}
seeds: {{count: {count}}}
"""
WARM = 0.2
"""Share of the images after which memory is called settled: allocators and caches fill at first."""


def run(count: int) -> dict[str, Any]:
    """Draw ``count`` images with one command and read the resident memory after each."""
    torch.set_num_threads(1)
    resident: list[int] = []
    keep_one = Store.keep

    def counted(self: Store, *arguments: Any) -> Any:
        try:
            return keep_one(self, *arguments)
        finally:
            gc.collect()
            resident.append(_resident())

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_model(folder / "model")
        (folder / "run.yaml").write_text(RUN.format(count=count))
        Store.keep = counted  # type: ignore[method-assign, assignment]
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                code = generate(folder / "run.yaml", folder / "out")
        finally:
            Store.keep = keep_one  # type: ignore[method-assign]
    assert code == 0, code
    first, last = resident[int(len(resident) * WARM)], max(resident[-max(1, count // 20) :])
    return {
        "images": len(resident),
        "first_mb": round(resident[0] / 1e6, 1),
        "settled_mb": round(first / 1e6, 1),
        "last_mb": round(last / 1e6, 1),
        "growth_percent": round(100 * (last - first) / first, 3),
    }


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    found = run(parser.parse_args().count)
    keep("memory", "under 1 % growth over 500 images", found["growth_percent"] < 1, found)


if __name__ == "__main__":
    main()
