"""Do mutated run files ever end in anything but a list of mistakes, and how long does the worst one take?

python benchmarks/robustness/mutated_yaml.py --count 100000     # minutes, no torch
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from robustness_helpers.figures import keep
from robustness_helpers.mutation import mutate

from weft import UserError
from weft.core.runfile.read import read_run_file

SLOWEST = 0.05
FILES = (
    b"""version: 1
model: tiny
prompt: a toy and a red star on grass
subjects:
  - {phrase: toy, images: [toy.png], box: [0.05, 0.4, 0.45, 0.9]}
  - {phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}
conditioners: [pseudo_word]
guidance: [{type: fusing, alpha: 0.5}, {type: classifier_free, scale: 7.5}, {type: attend_and_excite}]
sampler: {scheduler: ddim, steps: 50}
seeds: [0, 1, 2, 3]
sweep: {guidance.0.alpha: [0, 0.25, 0.5]}
""",
    b"""version: 1
model: "tiny"
prompt: >-
  two boats,
  one of them "red"
negative_prompt: 'fog: rain'
maps:
  edges: toy.png
source: toy.png
edit_mask: toy.png
guidance:
- type: classifier_free
  scale: 1e1
  interval: [0, 0.8]
sampler:
  width: 64   # pixels
  height: 0x40
reproducibility: exact
seeds: {count: 5}
""",
    b"""version: 1
model: tiny
scenes:
  - {prompt: a toy, subjects: [{phrase: toy, occurrence: 1}]}
  - {prompt: a star}
guidance: [composable]
metrics: []
""",
)
PIECES = (
    *(b"[", b"]", b"{", b"}", b"[" * 40, b"{a: " * 40, b"&a ", b"*a", b"!!python/object:os.system ", b"<<: "),
    *(
        b"? ",
        b"- ",
        b": ",
        b"\n",
        b"\t",
        b"---\n",
        b"...\n",
        b"%YAML 9.9\n",
        b"|\n",
        b">\n",
        b"'",
        b'"',
        b"#",
    ),
    *(
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\\x",
        b"\\uD800",
        b".inf",
        b".nan",
    ),
    *(b"9" * 400, b"1e999", b"-0", b"null", b"~", b"yes", b"0o8", b"1_000", b"../../etc/passwd", b"a" * 5000),
    *(
        b"sweep: {",
        b"seeds: [",
        b"steps: ",
        b"type: ",
        b"version: 1",
        b"scenes: ",
        b"count: 9999999",
        b"\r",
        b"\x85",
    ),
)


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Read ``count`` mutated files; what was raised, and the processor time of the slowest."""
    rng = random.Random(seed)
    valid, refused, unhandled, slow = 0, 0, [], []
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _picture(folder / "toy.png")
        path = folder / "run.yaml"
        for text in FILES:  # what is read once a process is not the files' doing
            path.write_bytes(text)
            read_run_file(path)
        for number in range(count):
            data = mutate(rng.choice(FILES), FILES, PIECES, rng)
            path.write_bytes(data)
            before = time.process_time()
            try:
                read_run_file(path)
                valid += 1
            except UserError:
                refused += 1
            except Exception:
                unhandled.append(
                    {"number": number, "file": repr(data), "error": traceback.format_exc()[-600:]}
                )
            spent = time.process_time() - before
            worst = max(worst, spent)
            if spent > SLOWEST:
                slow.append({"number": number, "seconds": round(spent, 3), "file": repr(data)[:400]})
    return {
        "files": count,
        "valid": valid,
        "refused": refused,
        "unhandled": len(unhandled),
        "slower_than_50_ms": len(slow),
        "worst_ms": round(worst * 1e3, 1),
        "seed": seed,
        "first": (unhandled + slow)[:5],
    }


def _picture(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = run(given.count, given.seed)
    holds = not found["unhandled"] and not found["slower_than_50_ms"]
    keep("mutated_yaml", "100k files, 0 unhandled, each under 50 ms of processor time", holds, found)


if __name__ == "__main__":
    main()
