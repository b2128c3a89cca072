"""What does Attend-and-Excite cost on a UNet of Stable Diffusion 1.5's shape, and what does it cost in diffusers?

Counted, not timed: floating-point operations and bytes kept for the backward pass, on PyTorch's meta device, which
holds no numbers. Both sides run what they run: diffusers' attention processors and its whole UNet at every step, Weft's
forward pass, which stops after the last map. On a CPU or a GPU PyTorch's fused attention keeps no probabilities; the
meta device would fall back to arithmetic that does, so the fused operator is called by name. Parameters do not count.

    python benchmarks/attend_and_excite_cost.py     # seconds, no GPU
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import diffusers
import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
    pipeline_stable_diffusion_attend_and_excite as peer,
)
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from weft import AttendAndExcite
from weft.core.api.attention_maps import MapRecorder
from weft.core.families.blocks import cross_attention_paths
from weft.core.unet.conditions import gather
from weft.core.unet.forward import UNetForward
from weft.zoo.models import cards

ROOT: Final = Path(__file__).parents[1]
STEPS: Final = 50
SIDE: Final = 64
TOKENS: Final = 77
WIDTH: Final = 768
BAR_FLOPS: Final = 0.45
BAR_BYTES: Final = 0.36e9
DTYPES: Final = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Cost:
    """Of one gradient of one sample: operations forward and backward, and bytes kept in between."""

    forward: int
    backward: int
    saved: int


def main() -> None:
    altered = AttendAndExcite().steps
    costs = {name: {"weft": ours(dtype), "diffusers": theirs(dtype)} for name, dtype in DTYPES.items()}
    one = costs["float16"]
    # diffusers runs its gradient's forward at every step, and its backward at those that are altered
    image = {
        "weft": altered * (one["weft"].forward + one["weft"].backward),
        "diffusers": STEPS * one["diffusers"].forward + altered * one["diffusers"].backward,
    }
    result = {
        "command": "python benchmarks/attend_and_excite_cost.py",
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "python": platform.python_version(),
        },
        "settings": {"steps": STEPS, "altered": altered, "latents": [1, 4, SIDE, SIDE], "refinement": False},
        "gradient": {
            name: {side: asdict(cost) for side, cost in both.items()} for name, both in costs.items()
        },
        "flops_added_to_an_image": image,
        "flops_ratio": image["weft"] / image["diffusers"],
        "flops_ratio_bar": BAR_FLOPS,
        "saved_bytes_bar_float16": BAR_BYTES,
    }
    folder = ROOT / "benchmarks" / "results"
    (folder / "attend_and_excite_cost.json").write_text(json.dumps(result, indent=2) + "\n")
    text = table(costs, image)
    (folder / "attend_and_excite_cost.md").write_text(text)
    print(text)


def ours(dtype: torch.dtype) -> Cost:
    unet = network(dtype)
    unet.requires_grad_(False)  # as `Pipeline` does
    evaluate = UNetForward(unet)
    wanted = frozenset(
        path for path in cross_attention_paths(unet) if path.startswith(("down_blocks.2", "up_blocks.1"))
    )
    recorder = MapRecorder(wanted, slice(None), stop=True)
    conditions = gather([torch.empty(TOKENS, WIDTH, device="meta", dtype=dtype)], [()])

    def forward(latents: Tensor) -> Tensor:
        evaluate(latents, torch.tensor(500), conditions, recorder)
        maps = torch.cat(list(recorder.probabilities.values()), dim=1).mean(dim=1)
        return loss(maps[0])

    return count(unet, dtype, forward)


def theirs(dtype: torch.dtype) -> Cost:
    unet = network(dtype)
    store = peer.AttentionStore((SIDE // 4, SIDE // 4))
    places = {"mid_block": "mid", "up_blocks": "up", "down_blocks": "down"}
    unet.set_attn_processor(
        {
            name: peer.AttendExciteAttnProcessor(store, places[name.split(".")[0]])
            for name in unet.attn_processors
        }
    )
    store.num_att_layers = len(unet.attn_processors)
    context = torch.empty(1, TOKENS, WIDTH, device="meta", dtype=dtype)

    def forward(latents: Tensor) -> Tensor:
        unet(latents, torch.tensor(500), encoder_hidden_states=context)
        return loss(store.aggregate_attention(("up", "down", "mid")))

    return count(unet, dtype, forward)


def network(dtype: torch.dtype) -> UNet2DConditionModel:
    config = json.loads((cards()["sd15"].folder / "unet" / "config.json").read_text())
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config).to(dtype).eval()


def loss(maps: Tensor) -> Tensor:
    """Of two subjects, without the smoothing: the same on both sides, and next to nothing beside the UNet."""
    attention = (100.0 * maps.reshape(-1, TOKENS)[:, 1:-1]).softmax(dim=-1)
    return (1.0 - attention[:, [1, 4]].amax(dim=0)).amax()


def count(unet: UNet2DConditionModel, dtype: torch.dtype, forward: Callable[[Tensor], Tensor]) -> Cost:
    latents = torch.empty(1, 4, SIDE, SIDE, device="meta", dtype=dtype, requires_grad=True)
    weights = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    kept: dict[
        int, Tensor
    ] = {}  # by storage; the tensors stay alive, so that no storage is counted as another

    def keep(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage()._cdata) not in weights:
            kept.setdefault(storage, tensor)
        return tensor

    with fused(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with FlopCounterMode(display=False) as there:
            value = forward(latents)
        with FlopCounterMode(display=False) as back:
            torch.autograd.grad(value, latents)
    saved = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return Cost(there.get_total_flops(), back.get_total_flops(), saved)


@contextmanager
def fused() -> Iterator[None]:
    def attend(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        assert attn_mask is None
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]

    with mock.patch.object(F, "scaled_dot_product_attention", attend):
        yield


def table(costs: dict[str, dict[str, Cost]], image: dict[str, int]) -> str:
    added = [f"{image[side] / 1e12:.1f} TFLOP" for side in ("weft", "diffusers")]
    lines = [
        "# Cost of Attend-and-Excite",
        "",
        f"Stable Diffusion 1.5's shape, {SIDE} x {SIDE} latents, one sample, two subjects, {STEPS} steps, "
        f"{AttendAndExcite().steps} altered, before refinement.",
        "Counted on the meta device; TFLOP are 10^12 operations, a multiplication and an addition being two.",
        "",
        "| | Weft | diffusers | ratio |",
        "|---|---|---|---|",
        f"| added to an image | {added[0]} | {added[1]} | {image['weft'] / image['diffusers']:.3f} |",
    ]
    for name, both in costs.items():
        weft, theirs = both["weft"], both["diffusers"]
        rows = {
            "one gradient, forward": (weft.forward, theirs.forward, 1e9, "GFLOP", 0),
            "one gradient, backward": (weft.backward, theirs.backward, 1e9, "GFLOP", 0),
            f"kept for the backward pass, {name}": (weft.saved, theirs.saved, 1e9, "GB", 2),
        }
        for what, (a, b, unit, word, digits) in rows.items():
            if name == "float16" or word == "GB":
                lines.append(
                    f"| {what} | {a / unit:.{digits}f} {word} | {b / unit:.{digits}f} {word} | {a / b:.3f} |"
                )
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    return "\n".join([*lines, "", f"`python benchmarks/attend_and_excite_cost.py`, {versions}.", ""])


if __name__ == "__main__":
    main()
