"""`weft demo`: what the shipped model draws, on one sheet."""

from __future__ import annotations

from pathlib import Path

from ..core.report.sheet import Row, sheet
from ..core.scene import Scene
from ..core.storage.atomic import make_folder, write_image
from .app import Exit
from .show import bar, out

MODEL = "tiny"
SEEDS = (0, 1)
STEPS = 50
SCALE = 7.5
PROMPTS = (
    "a red star on grass",
    "a blue fish on water",
    "an orange umbrella on sand",
    "a striped green ball on wood",
    "a purple mushroom and a yellow moon at night",
    "a white boat and a black car in front of a brick wall",
    "a dotted pink heart left of a brown house in snow",
    "a red car, a green tree and a blue house on grass",
)


def draw_demo(folder: Path) -> Exit:
    """Draw every prompt with every seed, and say where the pictures are."""
    make_folder(folder, "--output")
    count = len(PROMPTS) * len(SEEDS)
    with bar(count) as (progress, task):
        from .. import ClassifierFree, load

        result = load(MODEL).generate(
            [Scene(prompt) for prompt in PROMPTS],
            guidance=[ClassifierFree(SCALE)],
            steps=STEPS,
            seeds=SEEDS,
            attention=False,
            progress=lambda now: progress.update(
                task, completed=now.fraction * count, description=f"step {now.step} of {now.steps}"
            ),
        )
    result.save(folder)
    rows = [
        Row(prompt, result.images[number * len(SEEDS) : (number + 1) * len(SEEDS)])
        for number, prompt in enumerate(PROMPTS)
    ]
    path = write_image(sheet(rows, columns=2), folder / "demo.png")
    out.print(f"The sheet is {path}; its {count} pictures are beside it.")
    return Exit.OK
