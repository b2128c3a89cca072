"""What the scripts `gpu_*.py` share: pairs of calls, held to float64 first, then replayed in turns on a GPU.

Each pair is captured as CUDA graphs that are replayed A B A; inputs rotate over more memory than the L2 cache holds
("cold") or stay ("hot"); the figure is the median of the replays. Where a side cannot be captured, both are called
instead, and the table says so. Without a GPU the pairs are made small and only compared: no figure of speed is claimed.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import diffusers
import torch
from torch import Tensor

from . import ROOT

RESULTS: Final = ROOT / "benchmarks" / "results"
COLD_BYTES: Final = 240e6
REPLAYS: Final = 60

Run = Callable[[int], Any]
"""One call, on the inputs of a number; a tensor, or a tuple that begins with the tensor to compare."""


@dataclass(frozen=True)
class Pair:
    """A question: our call, another's, and the float64 result of the first set of inputs.

    Args:
        sets: of inputs; 1 where the weights alone are more than the cache holds.
        target: the other's time over ours that is aimed at.
    """

    name: str
    ours: Run
    theirs: Run
    exact: Callable[[], Tensor]
    sets: int
    target: float


def report(script: str, title: str, makers: Iterable[Callable[[torch.device], Sequence[Pair]]]) -> None:
    """Compare all pairs, and on a GPU time them and write ``results/<script>.json`` and ``.md``.

    Args:
        script: its name without the suffix.
        title: of the page.
        makers: of pairs for a device, called one after the other, so that only one's tensors are in memory.

    Raises:
        SystemExit: some pair does not agree.
    """
    torch.set_grad_enabled(False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured: dict[str, dict[str, Any]] = {}
    targets: dict[str, float] = {}
    failed = 0
    for make in makers:
        for pair in make(device):
            started = time.perf_counter()
            line = wrong(pair)
            print(line or f"{pair.name}: agrees ({time.perf_counter() - started:.1f} s)", flush=True)
            failed += bool(line)
            targets[pair.name] = pair.target
            if device.type == "cuda":
                measured[pair.name] = measure(pair) | {"target": pair.target, "agrees": not line}
    if device.type == "cuda":
        write(script, title, measured)
    else:
        print("\nNo GPU: no figure of speed is measured. The ratios that are aimed at on one:")
        print("\n".join(f"  {name}: at least {target}" for name, target in targets.items()))
    if failed:
        raise SystemExit(f"{failed} of {len(targets)} pairs do not agree with float64")


def write(script: str, title: str, measured: dict[str, dict[str, Any]]) -> None:
    """Write and print what was measured."""
    result = {
        "command": f"python benchmarks/{script}.py",
        "machine": torch.cuda.get_device_name(),
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "python": platform.python_version(),
        },
        "measured": measured,
    }
    (RESULTS / f"{script}.json").write_text(json.dumps(result, indent=2) + "\n")
    text = table(title, result)
    (RESULTS / f"{script}.md").write_text(text)
    print(text)


def table(title: str, result: dict[str, Any]) -> str:
    """The page of a result."""
    machine, versions = result["machine"], result["versions"]
    lines = [
        f"# {title}",
        "",
        f"{machine}, torch {versions['torch']}, diffusers {versions['diffusers']}. Milliseconds of one call, medians",
        f"of {REPLAYS} in turns, and the other side's over Weft's. Rows with a star are calls, the others graphs.",
        "",
        "| | Weft | other | ratio | ratio, hot | target |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in result["measured"].items():
        figures = f"{one['ours']:.4f} | {one['theirs']:.4f} | {one['ratio']:.3f} | {one['hot']:.3f}"
        notes = ("" if one["graphs"] else " *") + ("" if one["agrees"] else " (does not agree with float64)")
        lines.append(f"| {name}{notes} | {figures} | {one['target']} |")
    return "\n".join([*lines, "", f"`{result['command']}`.", ""])


def wrong(pair: Pair) -> str:
    """A line when our error against float64 is more than twice the other side's."""
    exact = pair.exact()
    errors = []
    for run in (pair.ours, pair.theirs):
        out = run(0)
        out = out[0] if isinstance(out, tuple) else out
        errors.append(float((out.double() - exact).norm() / exact.norm()))
    if errors[0] <= max(2 * errors[1], 1e-6):
        return ""
    return f"{pair.name}: DOES NOT AGREE, error {errors[0]:.2e}, the other's {errors[1]:.2e}"


def measure(pair: Pair) -> dict[str, Any]:
    """Median milliseconds of both with rotating inputs, their ratio, and the ratio with one set of inputs."""
    runs = [pair.ours, pair.theirs, pair.ours]
    cold, graphs = replayed(runs, range(pair.sets))
    hot, _ = (cold, graphs) if pair.sets == 1 else replayed(runs, [0] * 8)
    ours = (cold[0] + cold[2]) / 2
    return {
        "ours": ours,
        "theirs": cold[1],
        "ratio": cold[1] / ours,
        "hot": 2 * hot[1] / (hot[0] + hot[2]),
        "graphs": graphs,
    }


def replayed(runs: Sequence[Run], inputs: Sequence[int]) -> tuple[list[float], bool]:
    """Milliseconds of one call of each, in turns, and whether they are replays of graphs of a call for every input."""
    try:
        works: list[Callable[[], Any]] = [captured(run, inputs).replay for run in runs]
        graphs = True
    except RuntimeError as error:
        print(f"  not captured, so called: {str(error).splitlines()[0]}")
        works, graphs = [lambda run=run: [run(number) for number in inputs] for run in runs], False
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPLAYS):
        for work, mine in zip(works, times, strict=True):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            work()
            stop.record()
            stop.synchronize()
            mine.append(start.elapsed_time(stop) / len(inputs))
    return [statistics.median(mine) for mine in times], graphs


def captured(run: Run, inputs: Sequence[int]) -> torch.cuda.CUDAGraph:
    """A graph of one call for every input."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # as PyTorch wants it for graphs with a backward pass
        for number in list(inputs)[:3] * 2:
            run(number)
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for number in inputs:
            run(number)
    return graph
