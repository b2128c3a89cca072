"""Do mutated and crafted weights ever end in anything but tensors or our own error?

python benchmarks/robustness/mutated_safetensors.py --count 20000     # a minute
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from robustness_helpers.figures import keep
from robustness_helpers.mutation import mutate
from safetensors.torch import save
from torch import nn

from weft import UserError
from weft.core.checkpoints.tensors import fill_module, read_tensors

PIECES = (
    *(
        b"F32",
        b"F8_E4M3",
        b"BOOL",
        b'"shape":[',
        b"99999999999",
        b"-1",
        b"[[",
        b"NaN",
        b'"__metadata__":{',
        b"e400",
    ),
    *(b"\x00" * 8, b"\xff" * 8, b'"../x":', b"data_offsets", b"{", b"}", b'"'),
)
NAMES = (
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "..",
        "..\\..\\x",
        "\\\\host\\x",
        "~/x",
        "",
        "a\x00b",
        "a\nb",
    ),
    *("a" * 600, "\u202eevil", "\ud83d\ude00"),
)


def valid_files() -> list[bytes]:
    """Small weights of a linear layer and of other types."""
    like = nn.Linear(3, 2).state_dict()
    return [
        save(like),
        save({name: tensor.half() for name, tensor in like.items()}, metadata={"format": "pt"}),
        save({"a.b": torch.arange(6), "c": torch.ones(2, 0, 3), "d": torch.tensor(True)}),
    ]


def crafted() -> Iterator[tuple[str, bytes]]:
    """Files that are to be refused, each for one reason."""

    def one(
        name: str = "weight",
        dtype: Any = "F32",
        shape: Any = (2, 3),
        offsets: Any = (0, 24),
        data: bytes = b"\0" * 24,
    ) -> bytes:
        entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        return packed(json.dumps({name: entry}).encode(), data)

    def packed(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    for name in NAMES:
        yield f"the name {name[:20]!r}", one(name)
    for value in (float("nan"), float("inf"), float("-inf")):
        yield f"{value}", one(data=struct.pack("<6f", *([0.0] * 5), value))
        yield (
            f"{value} in half precision",
            one(dtype="F16", offsets=(0, 12), data=struct.pack("<6e", *([0.0] * 5), value)),
        )
    yield "100k dimensions", one(shape=[1] * 100_000, offsets=(0, 4), data=b"\0" * 4)
    yield "9 dimensions", one(shape=[1] * 9, offsets=(0, 4), data=b"\0" * 4)
    yield "a shape that overflows", one(shape=[2**40, 2**40], offsets=(0, 0), data=b"")
    yield "a side of 2^63", one(shape=[2**63], offsets=(0, 24))
    yield "a negative side", one(shape=[-2, -3])
    yield "a side that is true", one(shape=[True, 6])
    yield "a side of text", one(shape=["2", 3])
    yield "no shape", one(shape=None)
    yield "another size", one(shape=[2, 4])
    yield "a range past the end", one(offsets=(0, 2**40))
    yield "a range backwards", one(offsets=(24, 0))
    yield "a range of one number", one(offsets=(0,))
    yield "a fraction for a range", one(offsets=(0, 24.0))
    for dtype in ("F8_E4M3", "C64", "O", "PICKLE", 7, None):
        yield f"the type {dtype}", one(dtype=dtype)
    yield "a header of 2^63 bytes", packed(b"{}", b"", 2**63)
    yield "a header past the end", packed(b"{}", b"", 1000)
    yield "a header that is a list", packed(b"[]        ")
    yield "a header of half JSON", packed(b'{"weight": {')
    yield "a header that is no UTF-8", packed(b'{"\xff": {}}')
    yield "a deep header", packed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "an endless number", packed(b'{"a":' + b"9" * 10_000 + b"}")
    yield "an entry that is a number", packed(b'{"weight": 1}')
    yield (
        "two tensors in one place",
        packed(
            json.dumps(
                {n: {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]} for n in ("a", "b")}
            ).encode(),
            b"\0" * 24,
        ),
    )
    yield "a hole before the data", one(offsets=(8, 32), data=b"\0" * 32)
    yield "nothing", b""
    yield "seven bytes", b"\0" * 7
    yield "a pickle", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R."
    yield "a zip", b"PK\x03\x04" + b"\0" * 60


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Read ``count`` mutated files, fill a layer with what is read, and read the crafted ones."""
    rng = random.Random(seed)
    files = valid_files()
    read, filled, refused, unhandled = 0, 0, 0, []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "weights.safetensors"

        def attempt(label: str, data: bytes) -> bool:
            nonlocal read, filled, refused
            path.write_bytes(data)
            try:
                tensors = read_tensors(path)
                read += 1
                fill_module(nn.Linear(3, 2), tensors, "layer", torch.float32)
                filled += 1
            except UserError:
                refused += 1
                return False
            except Exception:
                unhandled.append({"file": label, "error": traceback.format_exc()[-600:]})
            return True

        accepted = [label for label, data in crafted() if attempt(label, data)]
        for number in range(count):
            attempt(f"{number}", mutate(rng.choice(files), files, PIECES, rng, most=2))
    return {
        "mutated": count,
        "crafted": sum(1 for _ in crafted()),
        "crafted_and_accepted": accepted,
        "read": read,
        "filled": filled,
        "refused": refused,
        "unhandled": len(unhandled),
        "seed": seed,
        "first": unhandled[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = run(given.count, given.seed)
    holds = not found["unhandled"] and not found["crafted_and_accepted"]
    keep("mutated_safetensors", "20k mutated and 40 crafted files, only our error", holds, found)


if __name__ == "__main__":
    main()
