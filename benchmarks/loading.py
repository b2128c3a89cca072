"""How long does a folder of Stable Diffusion 1.5's size take to load, and how much memory, against diffusers?

Random weights in float32, every check kept. Each load is a process of its own, and the files are in the page cache.

    python benchmarks/loading.py     # minutes, 8 GB of memory, 5 GB of disk; at a quiet moment
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOADED = {
    "weft": "import weft; pipe = weft.load(folder, device='cpu')",
    "diffusers": (
        "from diffusers import StableDiffusionPipeline; "
        "pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)"
    ),
}
TIMED = """
import json, resource, sys, time
import torch, diffusers, transformers, weft.core.load
folder = sys.argv[1]
start = time.perf_counter()
{load}
# a mapped file is read when its numbers are: what a first step would wait for
total = sum(float(one.sum()) for module in (pipe.unet, pipe.vae) for one in module.parameters())
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}}))
"""


def write(folder: Path) -> None:
    """A model of Stable Diffusion 1.5's shape with random weights."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from weft.core.api.registry import registry
    from weft.core.checkpoints.tokenizer import read_tokenizer

    card = registry().model("sd15")
    assert card is not None
    config = {part: json.loads((card.folder / part / "config.json").read_text()) for part in ("unet", "vae")}
    text = json.loads((card.folder / "text_encoder" / "config.json").read_text())
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(config["vae"]),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        tokenizer=read_tokenizer(card.folder / "tokenizer"),
        unet=UNet2DConditionModel.from_config(config["unet"]),
        scheduler=PNDMScheduler.from_pretrained(str(card.folder / "scheduler")),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def measured(folder: Path, kind: str) -> dict[str, float]:
    """Seconds and peak memory of one load, in a process of its own."""
    code = TIMED.format(load=LOADED[kind])
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="a model that is there, in place of a random one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place)
        if arguments.folder is None:
            write(folder)
        for kind in LOADED:
            measured(folder, kind)  # brings the files into the page cache
        runs: dict[str, list[Any]] = {kind: [] for kind in LOADED}
        for _ in range(arguments.repeats):  # in turn, so that a busy moment is everybody's
            for kind, figures in runs.items():
                figures.append(measured(folder, kind))
    print("| | seconds (median) | peak memory, GB |")
    print("|---|---|---|")
    for kind, figures in runs.items():
        seconds = statistics.median(one["seconds"] for one in figures)
        peak = max(one["peak_gb"] for one in figures)
        print(f"| {kind} | {seconds:.2f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
