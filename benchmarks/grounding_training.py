"""How fast does `grounding` learn where things are, with and without what Weft adds to GLIGEN's training?

Short trainings of the tiny model's grounding from the same random numbers: with the closed gates of GLIGEN, with open
gates over last layers of zero, and with these also the loss on what positions look at (``token_attention``),
``positions``, or both. Read is the error of the predicted noise on
pictures that no run has seen, at timesteps 400 to 950: the change that grounding brings, where the things are and in
the whole picture, with an interval (bootstrap over pictures).

    python benchmarks/grounding_training.py          # about 40 minutes on 2 cores; a killed run goes on
    python benchmarks/grounding_training.py --steps 20 --pictures 64     # does it run? to the console alone
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from einops import reduce
from quality import ROOT
from safetensors.torch import save_file

import weft
from weft.plugins.grounding.networks import GroundingNetworks
from weft.plugins.grounding.tokenizers import TextTokenizer
from weft.zoo.judge.evaluate import machine
from weft.zoo.training.conditioners.__main__ import prepare, task, train
from weft.zoo.training.conditioners.data import Batch, Examples
from weft.zoo.training.conditioners.recipe import ConditionersRecipe
from weft.zoo.training.conditioners.task import ConditionersTask
from weft.zoo.training.loop import averaged

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "closed gates, as GLIGEN's": {"closed": True},
    "open gates": {},
    "`token_attention`": {"token_attention": 0.1},
    "`positions`": {"positions": True},
    "both": {"token_attention": 0.1, "positions": True},
}
UNSEEN: Final = 800_000_000
HIDDEN: Final = 256
CHUNK: Final = 64
RESAMPLES: Final = 2_000


def closed_gates(file: Path) -> Path:
    """A file of fresh networks with closed gates, whatever ``create`` opens."""
    pipe = weft.load("tiny")
    width = pipe.text.width
    torch.manual_seed(0)
    networks = GroundingNetworks(pipe.unet, TextTokenizer(width, HIDDEN, width), width, ff_ratio=1)
    assert all(value == 0 for name, value in networks.state_dict().items() if "alpha" in name)
    save_file(networks.state_dict(), file)
    return file


def recipe(
    steps: int,
    pictures: int,
    token_attention: float = 0.0,
    positions: bool = False,
    start: Path | None = None,
) -> ConditionersRecipe:
    """Grounding alone, on pictures without individuals."""
    fields: dict[str, Any] = {
        "model": "tiny",
        "world": {"pictures": pictures, "subjects": 0.0},
        "conditioners": {"grounding": {"hidden": HIDDEN, "ff_ratio": 1, "positions": positions}},
        "token_attention": token_attention,
        "start": {} if start is None else {"grounding": start},
        "loop": {"steps": steps, "batch_size": 32, "learning_rate": 1e-3, "warmup": 50, "ema": 0.98,
                 "preview_minutes": 1e6},
    }  # fmt: skip
    return ConditionersRecipe.model_validate(fields)


@torch.no_grad()
def errors(trained: ConditionersTask, batch: Batch, grounded: bool) -> torch.Tensor:
    """Squared error of the noise of every picture: where its things are, and in the whole picture (b, 2)."""
    rng = torch.Generator().manual_seed(0)
    n = len(batch)
    t = torch.randint(400, 950, (n,), generator=rng)
    noise = torch.randn(batch.latents.shape, generator=rng)
    noisy = trained.scheduler.add_noise(batch.latents, noise, t)
    pieces = trained.pieces(
        batch, {"grounding": torch.full((n,), grounded)}, {"grounding": torch.zeros(n).bool()}
    )
    predicted = trained.walk(noisy, t, trained.conditions(batch, pieces))
    assert predicted is not None
    error = (predicted - noise).square().mean(1)
    things = (batch.masks * batch.known[:, :, None, None]).amax(1)
    inside = (error * things).sum((1, 2)) / things.sum((1, 2))
    return torch.stack([inside, reduce(error, "b h w -> b", "mean")], dim=1)


def measure(trained: ConditionersTask, unseen: Examples) -> dict[str, Any]:
    """The relative change that grounding brings, with intervals."""
    trained.model.eval()
    found: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    for k in range(0, len(unseen), CHUNK):
        batch = unseen.batch(torch.Generator().manual_seed(k), CHUNK)
        for grounded in found:
            found[grounded].append(errors(trained, batch, grounded))
    without, present = (torch.cat(found[grounded]).numpy() for grounded in (False, True))
    rng = np.random.default_rng(0)
    picks = [
        np.arange(len(without)),
        *(rng.integers(len(without), size=len(without)) for _ in range(RESAMPLES)),
    ]
    changes = np.array([present[i].mean(0) / without[i].mean(0) - 1 for i in picks])
    low, high = np.percentile(changes[1:], [2.5, 97.5], axis=0)
    return {
        where: {
            "change": round(float(changes[0, i]), 4),
            "interval": [round(float(x[i]), 4) for x in (low, high)],
        }
        for i, where in enumerate(("things", "picture"))
    } | {"pictures": len(without)}


def _shown(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['change']:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f})"


def main() -> None:
    """Train, read, write benchmarks/results/grounding_training.json and .md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pictures", type=int, default=6_000)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/grounding-training")
    arguments = parser.parse_args()
    data, unseen = arguments.out / "train", arguments.out / "unseen"
    plan = recipe(arguments.steps, arguments.pictures)
    if not (data / "data").exists():
        prepare(plan, data)
    if not (unseen / "data").exists():
        world = {"pictures": 512, "subjects": 0.0, "first": UNSEEN}
        prepare(ConditionersRecipe.model_validate(plan.model_dump() | {"world": world}), unseen)
    results = {}
    for number, (title, options) in enumerate(VARIANTS.items()):
        out = arguments.out / str(number)
        out.mkdir(exist_ok=True)
        options = dict(options)
        if options.pop("closed", False):
            options["start"] = closed_gates(out / "closed.safetensors")
        plan = recipe(arguments.steps, arguments.pictures, **options)
        if not (out / "data").exists():
            (out / "data").symlink_to((data / "data").resolve(), target_is_directory=True)
        train(plan, out)
        trained = task(plan, out)
        trained.model.load_state_dict(averaged(out), strict=False)
        results[title] = measure(trained, Examples(unseen / "data"))
        print(title, json.dumps(results[title]), flush=True)
    if arguments.steps < 400:
        return
    where = machine()
    command = shlex.join(["python", "benchmarks/grounding_training.py", *sys.argv[1:]])
    report = {"command": command, "machine": where, "steps": arguments.steps, "rows": results}
    (ROOT / "benchmarks/results/grounding_training.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = ["| training | where things are | whole picture |", "|---|---|---|"]
    for title, row in results.items():
        lines.append(f"| {title} | {_shown(row['things'])} | {_shown(row['picture'])} |")
    about = (
        "Error of the predicted noise with `grounding` against without, at timesteps 400 to 950 on 512 unseen "
        f"pictures, after {arguments.steps} steps of batch 32. `{command}` on {where['cpu']}, {where['cores']} cores, "
        f"torch {where['torch']}. Intervals: bootstrap over pictures."
    )
    (ROOT / "benchmarks/results/grounding_training.md").write_text(
        "# What makes `grounding` learn\n\n" + about + "\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
