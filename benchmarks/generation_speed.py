"""How fast does Weft draw on a CPU: branches in one batch against one by one, and against diffusers' pipeline?

Every pair is timed in turns, A B A B, after one of each to warm up, and the ratio is the median of the rounds' own
ratios, so that a machine that grows slower during the run slows both. Ratios above 1 are in Weft's favour.

    python benchmarks/generation_speed.py                  # about 20 minutes on 2 idle cores
    python benchmarks/generation_speed.py --compiled       # also both compiled: some minutes more
    python benchmarks/generation_speed.py --steps 2 --rounds 1 --dry      # a trial that writes nothing
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import diffusers
import torch

import weft
from weft.core.api.branches import Branch
from weft.core.api.guidance import Step
from weft.core.api.schedulers import make_scheduler
from weft.core.sampling.branch_evaluator import BranchEvaluator, PreparedScene
from weft.core.unet.forward import UNetForward

RESULTS: Final = Path(__file__).parent / "results"
PROMPT: Final = "a red ball and a blue cube on grass"
WORDS: Final = ("a red ball", "a blue cube", "grass", "a ball", "a cube", "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--dry", action="store_true")
    given = parser.parse_args()
    torch.set_grad_enabled(False)

    pairs = {
        f"{count} branches in one batch / one by one": branches(count, given.steps) for count in range(1, 7)
    }
    pairs["generation with 2 branches / diffusers"] = generation(given.steps, compiled=False)
    if given.compiled:
        pairs["generation with 2 branches, compiled / diffusers, compiled"] = generation(
            given.steps, compiled=True
        )
    measured = {name: compare(*pair, given.rounds) for name, pair in pairs.items()}
    command = f"python benchmarks/generation_speed.py --steps {given.steps} --rounds {given.rounds}"
    result = {
        "command": command + " --compiled" * given.compiled,
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}",
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "python": platform.python_version(),
        },
        "model": "tiny, 64 x 64 pixels, one picture, float32",
        "measured": measured,
    }
    text = table(result)
    print(text)
    if not given.dry:
        (RESULTS / "generation_speed.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / "generation_speed.md").write_text(text)


def branches(count: int, steps: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The UNet's part of a generation: all branches in one batch, and each in a call of its own."""
    pipe = weft.load("tiny")
    scheduler = make_scheduler("ddim", pipe.scheduler)
    scheduler.set_timesteps(steps, device="cpu")
    latents = torch.randn(1, 4, *pipe.view(pipe.size).latent_size, generator=torch.Generator().manual_seed(0))
    chosen = [Branch(prompt=word) for word in WORDS[:count]]
    places = [(Step(i, steps, float(t), Branch()), t) for i, t in enumerate(scheduler.timesteps)]
    scene = PreparedScene(weft.Scene(PROMPT), pipe.view(pipe.size), {})
    together, apart = (BranchEvaluator(UNetForward(pipe.unet), [scene]) for _ in range(2))

    def batch() -> None:
        for step, timestep in places:
            together(latents, timestep, step, chosen)

    def singly() -> None:
        for step, timestep in places:
            for branch in chosen:
                apart(latents, timestep, step, [branch])

    return batch, singly


def generation(steps: int, *, compiled: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Whole pictures, text encoder and VAE included; Weft does not record attention, which diffusers does not."""
    ours = weft.load("tiny")
    assert ours.folder is not None
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(ours.folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config)
    if compiled:
        ours = ours.compile()
        theirs.unet = torch.compile(theirs.unet, fullgraph=True, dynamic=False)
    scene, strategy = weft.Scene(PROMPT), weft.ClassifierFree(7.5)

    def draw() -> Any:
        return ours.generate(scene, guidance=[strategy], steps=steps, attention=False)

    def peer() -> Any:
        generator = torch.Generator().manual_seed(0)
        return theirs(PROMPT, num_inference_steps=steps, guidance_scale=7.5, generator=generator)

    return draw, peer


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Seconds of both, in turns, and the median ratio."""
    ours(), theirs()
    seconds = [(clock(ours), clock(theirs)) for _ in range(rounds)]
    ratios = sorted(b / a for a, b in seconds)
    return {
        "ours": statistics.median(a for a, _ in seconds),
        "theirs": statistics.median(b for _, b in seconds),
        "ratio": statistics.median(ratios),
        "range": [ratios[0], ratios[-1]],
    }


def clock(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def table(result: dict[str, Any]) -> str:
    lines = [
        "# Speed of generation on a CPU", "",
        f"{result['model']}; {result['machine']}. The ratio is the other side's time over Weft's, the median of rounds",
        "that were timed in turns, with the smallest and the largest.", "",
        "| | Weft | other | ratio | range |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, one in result["measured"].items():
        low, high = one["range"]
        lines.append(
            f"| {name} | {one['ours']:.2f} s | {one['theirs']:.2f} s | {one['ratio']:.3f} | {low:.3f} to {high:.3f} |"
        )
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join([*lines, "", f"`{result['command']}`, {versions}.", ""])


if __name__ == "__main__":
    main()
