"""How fast are the kernels on a GPU, beside PyTorch's and diffusers' own, and how fast is a whole step?

Shapes are Stable Diffusion 1.5's, weights random, bfloat16. Each pair is captured as CUDA graphs that are replayed in
turns, A B A; inputs rotate over more memory than the L2 cache holds ("cold") or stay ("hot"); the figure is the median
of the replays. Before it is timed, each result is compared with float64. Without a GPU the script compares the
implementations on the CPU, says which figures are not measured, and writes nothing.

    python benchmarks/gpu_kernels.py             # a minute without a GPU; about 5 minutes with one
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from torch import Tensor
from torch.nn import functional as F

from weft.core.conditions import gather
from weft.core.maps import Look
from weft.core.unet import UNetWalk
from weft.core.updates import updates
from weft.kernels.combine import combine_and_step
from weft.kernels.combine import reference as combine_reference
from weft.kernels.cross_attention import Regions, Segment, Segments, cross_attention, reference
from weft.zoo.models import cards

RESULTS: Final = Path(__file__).parent / "results"
# (positions, heads, size of a head) of the four sizes of feature map
LAYERS: Final = ((4096, 8, 40), (1024, 8, 80), (256, 8, 160), (64, 8, 160))
ROWS: Final = 3
COLD_BYTES: Final = 240e6
REPLAYS: Final = 60
NOTHING: Final = Look()
TARGETS: Final = {"plain": 0.95, "regions": 1.3, "groups": 3.0, "gradient": 1.8, "combine": 5.0, "step": 1.05}

Run = Callable[[int], Any]
"""One call, on the inputs of a number."""


@dataclass(frozen=True)
class Pair:
    """A question: our call, another's, and the float64 result of the first set of inputs."""

    name: str
    ours: Run
    theirs: Run
    exact: Callable[[], Tensor]
    sets: int
    target: float


def main() -> None:
    torch.set_grad_enabled(False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pairs = [*attention_pairs(device), combine_pair(device)]
    failed = [line for pair in pairs if (line := wrong(pair))]
    print("\n".join(failed) or f"{len(pairs)} operations agree with float64 on {device}.")
    if device.type == "cpu":
        print(
            "No GPU: no figure of speed is measured. The pairs and their targets (ratio to the other side):"
        )
        print("\n".join(f"  {pair.name}: at least {pair.target}" for pair in pairs))
        print(f"  a step of 2, 3 and 4 branches beside diffusers' compiled UNet: at least {TARGETS['step']}")
        return
    measured = {pair.name: measure(pair) | {"target": pair.target} for pair in pairs}
    measured |= {f"step of {n} branches / compiled diffusers": steps(n) for n in (2, 3, 4)}
    result = {
        "command": "python benchmarks/gpu_kernels.py",
        "machine": torch.cuda.get_device_name(),
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "python": platform.python_version(),
        },
        "measured": measured,
    }
    (RESULTS / "gpu_kernels.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "# Kernels on a GPU",
        "",
        f"{result['machine']}. Milliseconds, and the other side's over Weft's.",
        "",
    ]
    lines += ["| | cold | other | ratio | hot ratio | target |", "|---|---|---|---|---|---|"]
    for name, one in measured.items():
        figures = f"{one['ours']:.4f} | {one['theirs']:.4f} | {one['ratio']:.3f} | {one['hot']:.3f}"
        lines.append(f"| {name} | {figures} | {one['target']} |")
    (RESULTS / "gpu_kernels.md").write_text("\n".join([*lines, "", f"`{result['command']}`.", ""]))
    print("\n".join(lines))


def attention_pairs(device: torch.device) -> list[Pair]:
    """Every layer: plain, with regions, with captured groups, and the gradient through the captured groups."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    found = []
    for positions, heads, width in LAYERS if device.type == "cuda" else LAYERS[2:]:
        bytes_of_set = 2 * ROWS * positions * heads * width * kind.itemsize
        sets = max(2, int(COLD_BYTES / bytes_of_set)) if device.type == "cuda" else 1
        made = [inputs(positions, heads, width, kind, device, seed) for seed in range(sets)]
        where = f"{positions} positions, head {width}"

        def sdpa(i: int, made: Any = made, masked: bool = False) -> Tensor:
            query, text, regions, _ = made[i]
            mask = regions.dense(0, 77).to(query.dtype) if masked else None
            q, k, v = (one.transpose(1, 2) for one in (query, text.key, text.value))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)

        def materialised(i: int, moved: Tensor | None = None, made: Any = made) -> tuple[Tensor, Tensor]:
            query, text, _, groups = made[i]
            query = query if moved is None else moved
            q, k, v = (one.transpose(1, 2) for one in (query, text.key, text.value))
            p = (q @ k.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
            return (p @ v).transpose(1, 2), p @ groups.transpose(-1, -2)[:, None]

        def slope(i: int, run: Callable[..., Any], made: Any = made) -> Tensor:
            moved = made[i][0].detach().requires_grad_(True)
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(run(i, moved)[1].float().square().sum(), moved)
            return gradient

        def exact(made: Any = made, masked: bool = False) -> Tensor:
            query, text, regions, _ = made[0]
            wide = Segments.of([Segment(text.key.double(), text.value.double())])
            double = Regions(regions.space.double(), regions.tokens.double()) if masked else None
            return reference(query.double(), wide, double)[0]

        def exact_slope(made: Any = made) -> Tensor:
            query, text, _, groups = made[0]
            wide = Segments.of([Segment(text.key.double(), text.value.double())])
            moved = query.detach().double().requires_grad_(True)
            with torch.enable_grad():
                maps = reference(moved, wide, groups=groups.double())[1]
                assert maps is not None
                return torch.autograd.grad(maps.square().sum(), moved)[0]

        def plain(i: int, made: Any = made) -> Tensor:
            return cross_attention(made[i][0], made[i][1], finite=True)[0]

        def with_regions(i: int, made: Any = made) -> Tensor:
            return cross_attention(made[i][0], made[i][1], made[i][2], finite=True)[0]

        def with_groups(i: int, moved: Tensor | None = None, made: Any = made) -> Any:
            query = made[i][0] if moved is None else moved
            return cross_attention(query, made[i][1], groups=made[i][3], finite=True)

        found += [
            Pair(f"plain / SDPA, {where}", plain, sdpa, exact, sets, TARGETS["plain"]),
            Pair(
                f"regions / SDPA with a mask, {where}", with_regions, lambda i, run=sdpa: run(i, masked=True),
                lambda run=exact: run(masked=True), sets, TARGETS["regions"],
            ),
            Pair(f"groups / materialised, {where}", with_groups, materialised, exact, sets, TARGETS["groups"]),
            Pair(
                f"gradient / materialised, {where}", lambda i, s=slope, run=with_groups: s(i, run),
                lambda i, s=slope, run=materialised: s(i, run), exact_slope, sets, TARGETS["gradient"],
            ),
        ]  # fmt: skip
    return found


def inputs(
    positions: int, heads: int, width: int, kind: torch.dtype, device: torch.device, seed: int
) -> tuple[Tensor, Segments, Regions, Tensor]:
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(kind)

    text = Segments.of([Segment(normal(ROWS, 77, heads, width), normal(ROWS, 77, heads, width))])
    space = torch.where(normal(ROWS, 2, positions) > 0, 0.0, -1e4).to(kind)
    members = torch.zeros(ROWS, 2, 77, device=device, dtype=kind)
    members[:, 0, 2:4], members[:, 1, 6:8] = 1.0, 1.0
    groups = torch.eye(77, device=device, dtype=kind)[:16].expand(ROWS, -1, -1).contiguous()
    return normal(ROWS, positions, heads, width), text, Regions(space, members), groups


def combine_pair(device: torch.device) -> Pair:
    """Three predictions and a DDIM step, beside the scheduler's own."""
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    scheduler.set_timesteps(50, device=device)
    planned = updates(scheduler)
    assert planned is not None
    update, timestep = planned[20], scheduler.timesteps[20].cpu()
    sets = int(COLD_BYTES / 1e6) if device.type == "cuda" else 1
    made = [torch.randn(4, 4, 4, 64, 64, device=device) for _ in range(sets)]

    def ours(i: int) -> Tensor:
        return combine_and_step(list(made[i][:3]), (5.0, -2.0), made[i][3], update)[0]

    def theirs(i: int) -> Tensor:
        first, second, last, x = made[i]
        guided = last + 5.0 * (first - last) - 2.0 * (second - last)
        moved: Tensor = scheduler.step(guided, timestep, x, return_dict=False)[0]
        return moved

    def exact() -> Tensor:
        wide = made[0].double()
        return combine_reference(list(wide[:3]), (5.0, -2.0), wide[3], update)[0]

    return Pair("combine and step / eager", ours, theirs, exact, sets, TARGETS["combine"])


def wrong(pair: Pair) -> str:
    """A line when our error against float64 is more than twice the other side's."""
    exact = pair.exact()
    errors = []
    for run in (pair.ours, pair.theirs):
        out = run(0)
        out = out[0] if isinstance(out, tuple) else out
        errors.append(float((out.double() - exact).norm() / exact.norm()))
    return (
        ""
        if errors[0] <= max(2 * errors[1], 1e-6)
        else f"{pair.name}: error {errors[0]:.2e}, other {errors[1]:.2e}"
    )


def measure(pair: Pair) -> dict[str, float]:
    """Median milliseconds of both with rotating inputs, their ratio, and the ratio with one set of inputs."""
    cold = replayed([pair.ours, pair.theirs, pair.ours], range(pair.sets))
    hot = replayed([pair.ours, pair.theirs, pair.ours], [0] * 8)
    ours = (cold[0] + cold[2]) / 2
    return {"ours": ours, "theirs": cold[1], "ratio": cold[1] / ours, "hot": 2 * hot[1] / (hot[0] + hot[2])}


def replayed(runs: Sequence[Run], inputs: Sequence[int]) -> list[float]:
    """Milliseconds of one call of each, from replays of a graph of a call for every input, in turns."""
    graphs = []
    for run in runs:
        for number in list(inputs)[:3]:
            run(number)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for number in inputs:
                run(number)
        graphs.append(graph)
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPLAYS):
        for graph, mine in zip(graphs, times, strict=True):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            stop.record()
            stop.synchronize()
            mine.append(start.elapsed_time(stop) / len(inputs))
    return [statistics.median(mine) for mine in times]


@torch.no_grad()
def steps(count: int) -> dict[str, float]:
    """One evaluation of some branches, from the second step on, beside diffusers' compiled UNet on as many rows."""
    config = json.loads((cards()["sd15"].folder / "unet" / "config.json").read_text())
    unet = (
        diffusers.UNet2DConditionModel.from_config(config)
        .to("cuda", torch.bfloat16)
        .eval()
        .requires_grad_(False)
    )
    contexts = torch.randn(count, 77, 768, device="cuda", dtype=torch.bfloat16)
    latents = torch.randn(1, 4, 64, 64, device="cuda", dtype=torch.bfloat16)
    timestep = torch.tensor(500, device="cuda")
    walk, conditions = UNetWalk(unet), gather(list(contexts), [()] * count)
    walk(latents, timestep, conditions)  # makes keys and values
    ours = torch.compile(walk._walk, fullgraph=True, dynamic=False)
    theirs = torch.compile(unet, fullgraph=True, dynamic=False)
    many = latents.repeat(count, 1, 1, 1)
    found = replayed(
        [
            lambda i: ours(latents, timestep, conditions, NOTHING),
            lambda i: theirs(many, timestep, contexts),
            lambda i: ours(latents, timestep, conditions, NOTHING),
        ],
        [0],
    )
    mean = (found[0] + found[2]) / 2
    ratio = found[1] / mean
    return {"ours": mean, "theirs": found[1], "ratio": ratio, "hot": ratio, "target": TARGETS["step"]}


if __name__ == "__main__":
    main()
