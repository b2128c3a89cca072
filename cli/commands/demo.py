"""Draw images with the model that ships with weft."""

from __future__ import annotations

from pathlib import Path

from ...core.report.progress_bar import progress_bar
from ...core.report.sheet import Row, sheet
from ...core.scene import Scene
from ...core.storage.atomic import make_folder, write_image
from ..exit_code import Exit
from ..options import Output
from ..printing import errors, out

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


def run(output: Output = Path("runs/demo")) -> Exit:
    """Draw every prompt with every seed on one sheet, and say where it is."""
    make_folder(output, "--output")
    count = len(PROMPTS) * len(SEEDS)
    with progress_bar(count, errors) as show:
        from ... import ClassifierFree, load

        result = load(MODEL).generate(
            [Scene(prompt) for prompt in PROMPTS],
            guidance=[ClassifierFree(SCALE)],
            steps=STEPS,
            seeds=SEEDS,
            attention=False,
            progress=lambda now: show(now.fraction * count, str(now)),
        )
    result.save(output)
    rows = [
        Row(prompt, result.images[number * len(SEEDS) : (number + 1) * len(SEEDS)])
        for number, prompt in enumerate(PROMPTS)
    ]
    path = write_image(sheet(rows, columns=2), output, "demo")
    out.print(f"The sheet is {path}; its {count} images are beside it.")
    return Exit.OK
