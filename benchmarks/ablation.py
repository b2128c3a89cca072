"""What does each part of Subject-Diffusion do? The paper's ablation (arXiv 2307.11410, table 3), on the tiny model.

Held-out individuals are drawn from one reference picture each, alone in a box and two in their boxes, with all parts
(`fusion_text` for the CLS feature, `mask_location`, `subject_adapter`) and with one of them left out. The paper trained
each row anew. Here a part is left out of the sampling of one set of weights, which is what its absent form is trained
for. The row without attention control has a `fusion_text` of its own, trained by the same recipe without that loss;
mask and adapter, which were trained without it, are the same in all rows.

- identity: individuals that are nearest to themselves among 50 held-out ones, wherever they are (the paper: DINO);
- in place: images in which every individual is the right one, in its box (IoU at least 0.5; no column of the paper's);
- background: that of the prompt (the paper: CLIP-T, of the whole prompt).

    python benchmarks/ablation.py                                           # 200 cases, half an hour on 2 cores
    python benchmarks/ablation.py --cases 10                                # a quick look, to the console alone
    python benchmarks/ablation.py --part 0/2                                # one of two processes; then without it
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from bench_helpers import ROOT
from bench_helpers.judged import ENOUGH, Kept, digest, parser, write
from conditioners import CHUNK, Row, Settings, made, measure, shown, summary, together, used

import weft
from weft import zoo

PARTS: Final = ("fusion_text", "mask_location", "subject_adapter")
MEASURES: Final = ("identities", "in place", "background")
COUNTS: Final = {1: "one", 2: "two"}

PAPER: Final = {
    "all parts": ((0.711, 0.293), (0.506, 0.310)),
    "no location mask": ((0.694, 0.275), (0.477, 0.281)),
    "no box coordinates": ((0.732, 0.282), (0.464, 0.305)),
    "no adapter": ((0.534, 0.291), (0.411, 0.307)),
    "no attention control": ((0.692, 0.288), (0.500, 0.302)),
    "no CLS feature": ((0.637, 0.299), (0.457, 0.309)),
}
"""DINO and CLIP-T, of one subject and of two."""


def chosen(title: str, folders: Mapping[str, Path]) -> list[weft.Conditioner]:
    """The conditioners of a row, with the weights of each in its folder."""
    left_out = {
        "no location mask": "mask_location",
        "no adapter": "subject_adapter",
        "no CLS feature": "fusion_text",
    }.get(title)
    conditioners = [made(name, folder) for name, folder in folders.items() if name != left_out]
    if title != "no box coordinates":
        return conditioners
    path = folders["subject_adapter"] / "subject_adapter.safetensors"
    adapter = weft.SubjectAdapter(use_box=False, weights=path)
    return [adapter if one.name == adapter.name else one for one in conditioners]


def table(results: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Markdown: a line a row, with the paper's beside it."""
    head = ["", *(f"{measure}, {name}" for name in COUNTS.values() for measure in MEASURES)]
    head += [f"paper's {score}, {name}" for name in COUNTS.values() for score in ("DINO", "CLIP-T")]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for title, found in results.items():
        cells = [shown(found[count][measure]) for count in COUNTS for measure in MEASURES]
        paper = [f"{value:.3f}" for pair in PAPER[title] for value in pair]
        lines.append(f"| {' | '.join([title, *cells, *paper])} |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    options = parser(__doc__, "ablation")
    options.add_argument("--weights", type=Path, help="of the conditioners; those of the model by default")
    options.add_argument(
        "--without-attention",
        type=Path,
        metavar="DIR",
        default=ROOT / "benchmarks/weights/without_attention",
        help="of a fusion_text trained without the attention loss: its recipe, less the line 'attention'",
    )
    return options.parse_args()


def main() -> None:
    """Draw, read, write benchmarks/results/ablation.json and .md."""
    options = parsed()
    torch.set_num_threads(options.threads)
    settings = Settings()
    folder = Path(zoo.__path__[0]) / "tiny"
    own = options.weights or folder / "weft"
    pipe = weft.load(str(folder))
    results: dict[str, dict[int, dict[str, Any]]] = {}
    taken: dict[str, str] = {}
    for title in PAPER:
        folders = dict.fromkeys(PARTS, own)
        if title == "no attention control":
            folders["fusion_text"] = options.without_attention
        conditioners = chosen(title, folders)
        digests: dict[str, str] = {}
        for one in conditioners:
            digests |= used(folder, folders[one.name], [one.name])
        taken |= {f"{title}: {name}": value for name, value in digests.items() if name.startswith("weft/")}
        for count, name in COUNTS.items():
            row = Row(f"{title}, {name}", PARTS, "", together(count), MEASURES)
            kept = Kept.of_part(
                options.kept, digest(asdict(settings), digests, CHUNK, row.title), options.part
            )
            measure(pipe, row.title, row.cases, conditioners, options.cases, settings, kept, options.part)
            if options.part[1] == 1:
                found = summary(row, row.title, options.cases, kept)
                results.setdefault(title, {})[count] = found
    if options.part[1] > 1:
        return
    text = table(results)
    print(text)
    if options.cases < ENOUGH:
        return
    about = (
        f"{options.cases} cases a row, {settings.seeds} seeds, {settings.steps} steps of {settings.scheduler}, "
        f"guidance scale {settings.scale}, read by the judge. Intervals: bootstrap over cases. The paper's DINO and "
        "CLIP-T are of DreamBench and Stable Diffusion."
    )
    report = {"settings": asdict(settings), "weights": taken, "rows": results, "paper": PAPER}
    write("ablation", "Subject-Diffusion's parts, left out one by one", about, text, report)


if __name__ == "__main__":
    main()
