"""Is an image the same whatever is drawn beside it, bit for bit in exact mode and nearly so otherwise?

python benchmarks/robustness/determinism.py     # 6 minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from robustness_helpers.figures import keep

import weft
from weft import AttendAndExcite, ClassifierFree, Scene, Subject
from weft.testing import random_pipeline

SIZES = (1, 2, 3, 4, 7, 8)
TOLERANCE = 1e-3
SCENE = Scene("a toy and a star", [Subject("toy", box=(0, 0, 0.5, 1)), Subject("star", box=(0.5, 0, 1, 1))])
OTHER = Scene("two boats at night", [Subject("boats", box=(0, 0.5, 1, 1))])
CHAINS: dict[str, tuple[weft.Guidance, ...]] = {
    "classifier_free": (ClassifierFree(7.5),),
    "attend_and_excite": (AttendAndExcite(), ClassifierFree(7.5)),
}


def run(sizes: Sequence[int], schedulers: Sequence[str], chains: Sequence[str], steps: int) -> dict[str, Any]:
    """Draw every seed in batches of every size, once in each slot, alone and beside another scene."""
    pipe = random_pipeline()
    most = max(sizes)
    compared, bytes_differing, pixels_differing, worst = 0, 0, 0, 0.0
    for scheduler in schedulers:
        for chain in chains:
            options: dict[str, Any] = {"steps": steps, "scheduler": scheduler, "attention": False}

            draw = partial(_draw, pipe, CHAINS[chain], options)
            exact = {"reproducibility": "exact", "batch_size": most}
            alone = draw(range(most), batch_size=1)
            wanted = draw(range(most), **exact)
            for size in sizes:
                for turn in range(size):  # every seed below `size` is in every slot once
                    seeds = [(slot + turn) % size for slot in range(size)]
                    made = draw(seeds, **exact)
                    for slot, seed in enumerate(seeds):
                        differ = made.latents[slot] != wanted.latents[seed]
                        bytes_differing += int(differ.sum()) * made.latents.element_size()
                        same = made.images[slot].tobytes() == wanted.images[seed].tobytes()
                        pixels_differing += not same
                        compared += 1
                    near = draw(seeds, batch_size=size)
                    worst = max(
                        worst,
                        *(
                            float((near.latents[i] - alone.latents[s]).abs().max())
                            for i, s in enumerate(seeds)
                        ),
                    )
            beside = draw([0, 1], [OTHER, SCENE], **exact)
            for slot, seed in ((2, 0), (3, 1)):
                bytes_differing += int((beside.latents[slot] != wanted.latents[seed]).sum()) * 4
                compared += 1
    return {
        "sizes": list(sizes),
        "schedulers": list(schedulers),
        "chains": list(chains),
        "steps": steps,
        "threads": torch.get_num_threads(),
        "images_compared": compared,
        "exact_bytes_differing": bytes_differing,
        "exact_pictures_differing": pixels_differing,
        "normal_largest_difference": worst,
        "device": str(pipe.unet.device),
    }


def _draw(
    pipe: weft.Pipeline,
    guidance: Sequence[weft.Guidance],
    options: dict[str, Any],
    seeds: Sequence[int],
    scenes: Any = SCENE,
    **more: Any,
) -> weft.Result:
    return pipe.generate(scenes, guidance=guidance, seeds=seeds, **{**options, **more})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--threads", type=int, default=2, help="with one, a batch rounds less than with several"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = run(SIZES, ("ddim", "euler_ancestral", "dpmpp_2m"), tuple(CHAINS), given.steps)
    exact = not found["exact_bytes_differing"] and not found["exact_pictures_differing"]
    bar = "batches of 1, 2, 3, 4, 7, 8 and any slot: 0 bytes differ in exact mode, at most 1e-3 otherwise"
    keep("determinism", bar, exact and found["normal_largest_difference"] <= TOLERANCE, found)


if __name__ == "__main__":
    main()
