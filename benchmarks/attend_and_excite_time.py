"""How much time does Attend-and-Excite add to an image, here and in diffusers' deprecated pipeline?

The tiny model, one image, DDIM, the same noise and settings on both sides. A round draws four images one after
another: plain and with Attend-and-Excite, here and there; what it adds is the difference of a side's two. Rounds are
repeated, and the ratio is that of the medians, with a percentile interval of its bootstrap over rounds. Measured is the
processor time of one thread, so that what else the machine does weighs little. The refinement updates of both sides are
counted and kept.

It does so at two sizes and with two sizes of the maps. On Stable Diffusion the maps of 16 x 16 positions are on the
third of the UNet's four levels, and a forward pass that stops after the last of them leaves a part of it out. So it
does here at 128 pixels, and with maps of 8 x 8 positions at 64 pixels, the model's own size. There the maps of 16 x 16
are on the topmost level: the last of them is at the UNet's end, and both sides compute all of it.

An image has 20 steps, and all that the released code sets for 50 is in proportion: half of the steps are altered, and
refinement stands at their start, after a fifth and after two fifths, with at most 8 updates for 20. So the parts have
the shares that they have in 50 steps, in less than half of the time; `--steps 50` measures those. A refinement that
finds its attention reached makes no update; the table says how many were made.

    python benchmarks/attend_and_excite_time.py                         # 8 minutes on one idle core
    python benchmarks/attend_and_excite_time.py --rounds 1 --steps 10   # a quick look, to the console alone
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from bench_helpers import ROOT
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
    pipeline_stable_diffusion_attend_and_excite as peer,
)

import weft
from weft import zoo
from weft.core.report.statistics import resampled
from weft.zoo.judge.evaluate import digests, machine

BAR: Final = 0.55
# grass is hardly attended to: where all subjects are, the loss is 0 and there is nothing to refine
PROMPT: Final = "a red toy and a blue star on grass"
PHRASES: Final = ("toy", "grass")
# pixels, and positions of a side of the maps
SIZES: Final = ((128, 16), (64, 8), (64, 16))
FACTOR: Final = 4  # pixels to a latent


@dataclass(frozen=True)
class Settings:
    """Of both sides.

    Args:
        steps: of an image.
        altered: steps that move the latents.
        scale: of the gradient.
        thresholds: of refinement, by step; that at the last of them is out of reach.
        updates: of one refinement, at most.
    """

    steps: int
    altered: int
    scale: float
    thresholds: tuple[tuple[int, float], ...]
    updates: int

    @staticmethod
    def of(steps: int) -> Settings:
        """Those of the released code, which has 50 steps, in proportion."""
        places = ((0, 0.05), (steps // 5, 0.5), (2 * steps // 5, 1.0))
        return Settings(steps, steps // 2, 5.0, places, max(1, 20 * steps // 50))


class Tries(logging.Handler):
    """Counts the peer's refinement updates, as it logs them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, entry: logging.LogRecord) -> None:
        self.count += "Try" in entry.getMessage()


def ours(
    folder: Path, settings: Settings, side: int, grid: int, refine: bool
) -> dict[str, Callable[[int], int]]:
    """What draws one image here, plain and excited; each gives the number of refinement updates."""
    pipe = weft.load(str(folder))
    scene = weft.Scene(PROMPT, subjects=[weft.Subject(phrase) for phrase in PHRASES])
    excite = weft.AttendAndExcite(
        settings.scale,
        steps=settings.altered,
        thresholds=dict(settings.thresholds) if refine else {},
        updates=settings.updates,
        positions=grid**2,
    )

    def draw(guidance: list[weft.Guidance], seed: int) -> int:
        chain = [*guidance, weft.ClassifierFree(7.5)]
        size = {"height": side, "width": side}
        result = pipe.generate(
            scene, guidance=chain, steps=settings.steps, seeds=[seed], attention=False, **size
        )
        return sum(descent.updates[0] for trace in result.trace for descent in trace.descents)

    return {"plain": lambda seed: draw([], seed), "excited": lambda seed: draw([excite], seed)}


def theirs(
    folder: Path, settings: Settings, side: int, grid: int, refine: bool
) -> dict[str, Callable[[int], int]]:
    """The same in diffusers."""
    excited = peer.StableDiffusionAttendAndExcitePipeline.from_pretrained(folder, safety_checker=None)
    excited.scheduler = DDIMScheduler.from_config(excited.scheduler.config)
    plain = StableDiffusionPipeline(
        **{k: v for k, v in excited.components.items() if k != "image_encoder"}, requires_safety_checker=False
    )
    positions = [i for i, word in excited.get_indices(PROMPT).items() if word.removesuffix("</w>") in PHRASES]
    assert len(positions) == len(PHRASES)
    tries = Tries()
    peer.logger.addHandler(tries)
    peer.logger.setLevel(logging.INFO)
    peer.logger.propagate = False

    def options(seed: int) -> dict[str, Any]:
        noise = torch.randn(
            1, 4, side // FACTOR, side // FACTOR, generator=torch.Generator().manual_seed(seed)
        )
        return {
            "num_inference_steps": settings.steps,
            "guidance_scale": 7.5,
            "height": side,
            "width": side,
            "latents": noise,
        }

    def excite(seed: int) -> int:
        before = tries.count
        excited(
            PROMPT,
            token_indices=positions,
            max_iter_to_alter=settings.altered,
            thresholds=dict(settings.thresholds) if refine else {},
            scale_factor=settings.scale,
            attn_res=(grid, grid),
            **options(seed),
        )
        return tries.count - before

    def draw(seed: int) -> int:
        plain(PROMPT, **options(seed))
        return 0

    for pipeline in (plain, excited):
        pipeline.set_progress_bar_config(disable=True)
    # a call has no argument for it
    refine_once = excited._perform_iterative_refinement_step
    excited._perform_iterative_refinement_step = partial(refine_once, max_refinement_steps=settings.updates)
    return {"plain": draw, "excited": excite}


def measure(
    folder: Path, settings: Settings, side: int, grid: int, refine: bool, rounds: int
) -> dict[str, Any]:
    """Seconds that each side adds, by round, and their ratio."""
    sides = {
        "weft": ours(folder, settings, side, grid, refine),
        "diffusers": theirs(folder, settings, side, grid, refine),
    }
    added: dict[str, list[float]] = {name: [] for name in sides}
    plain: dict[str, list[float]] = {name: [] for name in sides}
    updates = []
    for name, draw in sides.items():  # the first images pay for what is made once
        draw["excited"](0)
        print(f"warmed up: {name}", flush=True)
    for number in range(rounds):
        made = {}
        # the order alternates, so that a drift of the machine falls on both
        for name in list(sides)[:: 1 if number % 2 else -1]:
            seconds = {}
            for what, draw_one in sides[name].items():
                begun = time.process_time()
                made[name] = draw_one(number)
                seconds[what] = time.process_time() - begun
            added[name].append(seconds["excited"] - seconds["plain"])
            plain[name].append(seconds["plain"])
        print(
            f"round {number + 1}: { ({k: round(v[-1], 2) for k, v in added.items()}) } s added, updates {made}",
            flush=True,
        )
        updates.append(made)
    pairs = np.array([added["weft"], added["diffusers"]])
    interval = resampled(
        lambda picks: np.median(pairs[0][picks], axis=1) / np.median(pairs[1][picks], axis=1), rounds
    )
    return {
        "seconds_added": {name: round(float(np.median(values)), 4) for name, values in added.items()},
        "seconds_plain": {name: round(float(np.median(values)), 4) for name, values in plain.items()},
        "ratio": round(float(np.median(pairs[0]) / np.median(pairs[1])), 4),
        "interval": [round(value, 4) for value in interval],
        "rounds": rounds,
        "refinement_updates": updates,
    }


def main() -> None:
    """Measure both, and write benchmarks/results/attend_and_excite_time.json and .md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="fewer than 5 write no results")
    parser.add_argument("--steps", type=int, default=20, help="of an image; at least 10")
    options = parser.parse_args()
    if options.steps < 10:
        parser.error("--steps: at least 10, so that every refinement is at a step of its own")
    torch.set_num_threads(1)
    settings = Settings.of(options.steps)
    folder = Path(zoo.__path__[0]) / "tiny"
    found = {
        f"{side} pixels, maps of {grid} x {grid}, refinement {name}": measure(
            folder, settings, side, grid, refine, options.rounds
        )
        for side, grid in SIZES
        for name, refine in (("off", False), ("on", True))
    }
    lines = ["| | added here | added in diffusers | ratio, 95 % interval | bar |", "|---|---|---|---|---|"]
    for name, one in found.items():
        here, there = one["seconds_added"]["weft"], one["seconds_added"]["diffusers"]
        low, high = one["interval"]
        lines.append(
            f"| {name} | {here:.2f} s | {there:.2f} s | {one['ratio']:.3f} ({low:.3f} to {high:.3f}) | {BAR} |"
        )
    text = "\n".join(lines)
    print(text)
    if options.rounds < 5:
        return
    command = shlex.join(["python", "benchmarks/attend_and_excite_time.py", *sys.argv[1:]])
    where = machine()
    weights = {name: value for name, value in digests(folder).items() if not name.startswith("weft/")}
    report = {
        "command": command,
        "settings": asdict(settings),
        "machine": where,
        "weights": weights,
        "bar": BAR,
        **found,
    }
    results = ROOT / "benchmarks/results"
    (results / "attend_and_excite_time.json").write_text(json.dumps(report, indent=1) + "\n")
    counts = sorted(
        {n for each in found.values() for one in each["refinement_updates"] for n in one.values() if n}
    )
    about = (
        f"The tiny model, one image of {settings.steps} steps, {settings.altered} altered, with at most "
        f"{settings.updates} updates a refinement: what the released code sets for 50 steps, in proportion. Processor "
        f"time of one thread, medians of {options.rounds} rounds; {counts[0]} to {counts[-1]} refinement updates an "
        f"image. "
        f"`{command}` on {where['cpu']}, torch {where['torch']}, diffusers {where['diffusers']}."
    )
    title = "# Time that Attend-and-Excite adds"
    (results / "attend_and_excite_time.md").write_text(f"{title}\n\n{about}\n\n{text}\n")


if __name__ == "__main__":
    main()
