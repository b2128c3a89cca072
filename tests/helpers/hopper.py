"""Compiles the Triton kernels for Hopper, without a GPU, and prints what the machine code holds, as JSON.

A program of its own: it must run outside Triton's interpreter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from weft.kernels.combine import triton_kernels as combine
from weft.kernels.cross_attention import triton_kernels as attention
from weft.kernels.cross_attention.launch import Constants
from weft.kernels.low_rank import launch as low_rank_launch
from weft.kernels.low_rank import triton_kernels as low_rank

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
HOPPER = GPUTarget("cuda", 90, 32)

# Stable Diffusion 1.5's heads; text alone with regions and maps, and text with two adapters
ATTENTION = {
    f"{direction} {width} {name}": (direction, Constants(width, **options))
    for width in (40, 80, 160)
    for direction in ("forward", "backward")
    for name, options in {
        "maps": {"lengths": (77,), "regions": 2, "region_tokens": 77, "capture": True},
        "adapters": {"lengths": (77, 4, 16), "weighted": True},
    }.items()
    # ten kernels, beside the two of `combine` and the four of `low_rank`
    if (width, name) != (80, "adapters")
}


# three branches in half precision; of first and of second order
COMBINE = {
    "combine ddim": {"KIND": 0, "SECOND": False, "KEEP": False, "BLOCK": 1024},
    "combine dpmpp_2m": {"KIND": 2, "SECOND": True, "KEEP": True, "BLOCK": 1024},
}


# one adapter everywhere; three in regions and in some rows; and the gradient of these in x
REGIONS = {"ranks": (16, 64, 128), "masked": (True, True, False), "listed": (False, True, True)}
LOW_RANK = {
    "low_rank one": low_rank_launch.Constants((16,), (False,), (False,)),
    "low_rank regions": low_rank_launch.Constants(**REGIONS),
    "low_rank gradient": low_rank_launch.Constants(**REGIONS, added=False),
    "low_rank exact": low_rank_launch.Constants((32, 17, 32, 32, 4), (True,) * 5, (True,) * 5, exact=True),
}


def compile_low_rank(constants: low_rank_launch.Constants) -> Any:
    dtype = "fp32" if constants.exact else "bf16"
    kernel, count, arguments = low_rank.low_rank_kernel, len(constants.ranks), constants.arguments
    # one of the two steps of a factor is 1, and in a gradient the other one
    ones = (
        ("down_channel_steps", "up_rank_steps")
        if constants.added
        else ("down_rank_steps", "up_channel_steps")
    )
    signature: dict[str, Any] = {}
    for name in kernel.arg_names:
        if name in arguments:
            signature[name] = "constexpr"
        elif name.endswith("_ptr"):
            signature[name] = f"*{dtype}"
        elif name in ("downs", "ups", "strengths", "masks", "rows"):
            kind = {"strengths": "*fp32", "masks": "*fp32", "rows": "*i64"}.get(name, f"*{dtype}")
            signature[name] = (kind,) * count
        elif name.endswith("_steps") or name == "counts":
            signature[name] = ("constexpr" if name in ones else "i32",) * count
        else:
            signature[name] = "i32"
    fixed = {(list(signature).index(name), number): 1 for name in ones for number in range(count)}
    return build(kernel, signature, arguments | fixed, constants.warps, low_rank_launch.STAGES)


def compile_combine(constants: dict[str, Any]) -> Any:
    kernel, count = combine.step_kernel, 3
    constants = {"N": count, **constants}
    signature: dict[str, Any] = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name == "predictions":
            signature[name] = ("*bf16",) * count
        elif name.endswith("coefficients"):
            signature[name] = ("fp32",) * count
        elif name.endswith("_ptr"):
            signature[name] = "*i32" if name == "fault_ptr" else "*fp32"
        else:
            signature[name] = "i32" if name == "size" else "fp32"
    return build(kernel, signature, constants, 4)


def compile_attention(direction: str, constants: Constants, dtype: str = "bf16") -> Any:
    kernel = attention.forward_kernel if direction == "forward" else attention.backward_kernel
    arguments = constants.arguments
    signature: dict[str, str] = {}
    for name in kernel.arg_names:
        if name in arguments:
            signature[name] = "constexpr"
        elif name.endswith("_ptr"):
            single = name in ("weight_ptr", "map_ptr", "given_map_ptr")
            signature[name] = "*fp32" if single else f"*{dtype}"
        else:
            signature[name] = "fp32" if name == "scale" else "i32"
    return build(kernel, signature, arguments, constants.warps)


def build(
    kernel: Any, signature: dict[str, Any], constants: dict[Any, Any], warps: int, stages: int = 1
) -> Any:
    # pointers and strides are multiples of 16, as PyTorch's are
    ends = ("_ptr", "_row", "_step", "_head", "_steps", "downs", "ups", "wide_in", "wide_out")
    places: list[tuple[int, ...]] = []
    for place, (name, kind) in enumerate(signature.items()):
        if not name.endswith(ends) or name == "weight_step":
            continue
        if isinstance(kind, tuple):
            places += [(place, number) for number in range(len(kind)) if (place, number) not in constants]
        else:
            places.append((place,))
    source = ASTSource(kernel, signature, constants, {place: [["tt.divisibility", 16]] for place in places})
    return triton.compile(source, target=HOPPER, options={"num_warps": warps, "num_stages": stages})


def report(compiled: Any) -> dict[str, int]:
    """Registers, local memory accesses, matrix instructions and bytes of shared memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(compiled.asm["cubin"])
        code = run("nvdisasm", "-c", path)
        usage = run("cuobjdump", "--dump-resource-usage", path)
    return {
        "registers": int(re.findall(r"REG:(\d+)", usage)[-1]),
        "spills": len(re.findall(r"\b(?:LDL|STL)\b", code)),
        "HGMMA": len(re.findall(r"\bHGMMA\b", code)),
        "shared": compiled.metadata.shared,
        "warps": compiled.metadata.num_warps,
    }


def run(tool: str, *arguments: Any) -> str:
    return subprocess.run(
        [TOOLS / tool, *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout


def main(names: list[str]) -> None:
    compilers = {
        **{name: partial(compile_attention, *one) for name, one in ATTENTION.items()},
        **{name: partial(compile_combine, one) for name, one in COMBINE.items()},
        **{name: partial(compile_low_rank, one) for name, one in LOW_RANK.items()},
    }
    found = {name: report(compilers[name]()) for name in names or compilers}
    print(json.dumps({"triton": triton.__version__, "kernels": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
