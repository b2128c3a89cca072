"""How fast are the operations on a GPU, beside PyTorch's own and beside the compiled reference?

Shapes are Stable Diffusion 1.5's, numbers random, bfloat16; see `bench_helpers/gpu_timing.py` for how pairs are timed.
Without a GPU the script compares small ones on the CPU, says what is not measured, and writes nothing.

    python benchmarks/gpu_kernels.py             # a minute without a GPU; about 5 minutes with one
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import diffusers
import torch
from bench_helpers.gpu_timing import COLD_BYTES, Pair, report
from torch import Tensor
from torch.nn import functional as F

from weft.core.sampling.fused_updates import updates
from weft.kernels.combine import combine_and_step
from weft.kernels.combine import reference as combine_reference
from weft.kernels.cross_attention import Regions, Segment, Segments, cross_attention, reference
from weft.kernels.low_rank import Adapter, low_rank
from weft.kernels.low_rank import reference as low_rank_reference

# (positions, heads, size of a head) of the four sizes of feature map
LAYERS: Final = ((4096, 8, 40), (1024, 8, 80), (256, 8, 160), (64, 8, 160))
ROWS: Final = 3
TARGETS: Final = {
    "plain": 0.95,
    "maps": 1.0,
    "regions": 1.3,
    "gradient": 1.8,
    "compiled": 1.0,
    "combine": 5.0,
    "low rank": 2.0,
    "low rank, stacked": 1.2,
}


def main() -> None:
    report(
        "gpu_kernels",
        "Kernels on a GPU",
        [attention_pairs, compiled_pairs, lambda device: [combine_pair(device)], low_rank_pairs],
    )


def attention_pairs(device: torch.device) -> list[Pair]:
    """Every layer: plain, with regions, with captured maps, and the gradient through them."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    found = []
    for positions, heads, width in LAYERS if device.type == "cuda" else LAYERS[2:]:
        bytes_of_set = 2 * ROWS * positions * heads * width * kind.itemsize
        sets = max(2, int(COLD_BYTES / bytes_of_set)) if device.type == "cuda" else 1
        made = [inputs(positions, heads, width, kind, device, seed) for seed in range(sets)]
        where = f"{positions} positions, head {width}"

        def sdpa(i: int, made: Any = made, masked: bool = False) -> Tensor:
            query, text, regions = made[i]
            mask = regions.dense(0, 77).to(query.dtype) if masked else None
            q, k, v = (one.transpose(1, 2) for one in (query, text.key, text.value))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)

        def materialised(i: int, moved: Tensor | None = None, made: Any = made) -> tuple[Tensor, Tensor]:
            query, text, _ = made[i]
            query = query if moved is None else moved
            q, k, v = (one.transpose(1, 2) for one in (query, text.key, text.value))
            p = (q @ k.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
            return (p @ v).transpose(1, 2), p

        def slope(i: int, run: Callable[..., Any], made: Any = made) -> Tensor:
            moved = made[i][0].detach().requires_grad_(True)
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(run(i, moved)[1].float().square().sum(), moved)
            return gradient

        def exact(made: Any = made, masked: bool = False) -> Tensor:
            query, text, regions = made[0]
            wide = Segments.of([Segment(text.key.double(), text.value.double())])
            double = Regions(regions.space.double(), regions.tokens.double()) if masked else None
            return reference(query.double(), wide, double)[0]

        def exact_slope(made: Any = made) -> Tensor:
            query, text, _ = made[0]
            wide = Segments.of([Segment(text.key.double(), text.value.double())])
            moved = query.detach().double().requires_grad_(True)
            with torch.enable_grad():
                maps = reference(moved, wide, capture=True)[1]
                assert maps is not None
                return torch.autograd.grad(maps.square().sum(), moved)[0]

        def plain(i: int, made: Any = made) -> Tensor:
            return cross_attention(made[i][0], made[i][1], finite=True)[0]

        def with_regions(i: int, made: Any = made) -> Tensor:
            return cross_attention(made[i][0], made[i][1], made[i][2], finite=True)[0]

        def with_maps(i: int, moved: Tensor | None = None, made: Any = made) -> Any:
            query = made[i][0] if moved is None else moved
            return cross_attention(query, made[i][1], capture=True, finite=True)

        found += [
            Pair(f"plain / SDPA, {where}", plain, sdpa, exact, sets, TARGETS["plain"]),
            Pair(
                f"regions / SDPA with a mask, {where}", with_regions, lambda i, run=sdpa: run(i, masked=True),
                lambda run=exact: run(masked=True), sets, TARGETS["regions"],
            ),
            Pair(f"maps / materialised, {where}", with_maps, materialised, exact, sets, TARGETS["maps"]),
            Pair(
                f"gradient / materialised, {where}", lambda i, s=slope, run=with_maps: s(i, run),
                lambda i, s=slope, run=materialised: s(i, run), exact_slope, sets, TARGETS["gradient"],
            ),
        ]  # fmt: skip
    return found


def compiled_pairs(device: torch.device) -> list[Pair]:
    """Text, an adapter, regions and captured maps at once, beside what inductor makes of the reference."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    found = []
    for positions, heads, width in LAYERS[:2] if device.type == "cuda" else LAYERS[3:]:
        sets = (
            max(2, int(COLD_BYTES / (2 * ROWS * positions * heads * width * 2)))
            if device.type == "cuda"
            else 1
        )
        made = []
        for seed in range(sets):
            query, text, regions = inputs(positions, heads, width, kind, device, seed)
            of_text = Segment(text.key, text.value)
            adapter = Segment(text.key[:, :4], text.value[:, :4], torch.full((ROWS, 1), 0.6, device=device))
            made.append((query, Segments.of([of_text, adapter]), regions))
        # without a GPU it is traced and not compiled, which takes no minutes
        form = torch.compile(
            reference, fullgraph=True, dynamic=False, backend="inductor" if device.type == "cuda" else "eager"
        )

        def ours(i: int, made: Any = made) -> Any:
            query, segments, regions = made[i]
            return cross_attention(query, segments, regions, capture=True, finite=True)

        def theirs(i: int, made: Any = made, form: Any = form) -> Any:
            return form(*made[i], capture=True)

        def exact(made: Any = made) -> Tensor:
            query, segments, regions = made[0]
            wide = replace(segments, key=segments.key.double(), value=segments.value.double())
            double = Regions(regions.space.double(), regions.tokens.double())
            return reference(query.double(), wide, double)[0]

        name = f"text, adapter, regions and maps / compiled reference, {positions} positions, head {width}"
        found.append(Pair(name, ours, theirs, exact, sets, TARGETS["compiled"]))
    return found


def inputs(
    positions: int, heads: int, width: int, kind: torch.dtype, device: torch.device, seed: int
) -> tuple[Tensor, Segments, Regions]:
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(kind)

    text = Segments.of([Segment(normal(ROWS, 77, heads, width), normal(ROWS, 77, heads, width))])
    space = torch.where(normal(ROWS, 2, positions) > 0, 0.0, -1e4).to(kind)
    members = torch.zeros(ROWS, 2, 77, device=device, dtype=kind)
    members[:, 0, 2:4], members[:, 1, 6:8] = 1.0, 1.0
    return normal(ROWS, positions, heads, width), text, Regions(space, members)


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


def low_rank_pairs(device: torch.device) -> list[Pair]:
    """Three adapters of rank 16, each in a third of the positions, beside the same one by one and stacked."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    pairs = []
    for positions, heads, width in LAYERS[:3] if device.type == "cuda" else LAYERS[3:]:
        channels = heads * width
        bytes_of_set = 3 * ROWS * positions * channels * kind.itemsize
        sets = max(2, int(COLD_BYTES / bytes_of_set)) if device.type == "cuda" else 1
        inputs = [low_rank_inputs(positions, channels, kind, device, seed) for seed in range(sets)]
        stacks = [
            (
                torch.cat([one.down for one in adapters]),
                torch.cat([one.up for one in adapters], dim=1),
                torch.cat([one.factor().expand(-1, -1, 16) for one in adapters], dim=-1).to(kind),
            )
            for _, _, adapters in inputs
        ]

        def ours(i: int, inputs: Any = inputs) -> Tensor:
            return low_rank(*inputs[i])

        def one_by_one(i: int, inputs: Any = inputs) -> Tensor:
            return low_rank(*inputs[i], implementation="composed")

        def stacked(i: int, inputs: Any = inputs, stacks: Any = stacks) -> Tensor:
            (x, base, _), (down, up, factors) = inputs[i], stacks[i]
            added: Tensor = base + F.linear(F.linear(x, down) * factors, up)
            return added

        def exact(inputs: Any = inputs) -> Tensor:
            x, base, adapters = inputs[0]
            wide = [replace(one, down=one.down.double(), up=one.up.double()) for one in adapters]
            return low_rank_reference(x.double(), base.double(), wide)

        where = f"{positions} positions, {channels} channels"
        pairs += [
            Pair(f"low rank / one by one, {where}", ours, one_by_one, exact, sets, TARGETS["low rank"]),
            Pair(f"low rank / stacked, {where}", ours, stacked, exact, sets, TARGETS["low rank, stacked"]),
        ]
    return pairs


def low_rank_inputs(
    positions: int, channels: int, kind: torch.dtype, device: torch.device, seed: int
) -> tuple[Tensor, Tensor, list[Adapter]]:
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(kind)

    third = torch.arange(positions, device=device) * 3 // positions
    strength = torch.full((ROWS,), 0.8, device=device)
    adapters = [
        Adapter(
            normal(16, channels) * channels**-0.5, normal(channels, 16) / 4, strength,
            (third == number).float().expand(ROWS, -1),
        )
        for number in range(3)
    ]  # fmt: skip
    return normal(ROWS, positions, channels), normal(ROWS, positions, channels), adapters


if __name__ == "__main__":
    main()
