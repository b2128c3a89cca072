"""What do the pooled features of the tiny model's image tower tell of a picture?

Noun, emblem, trim and colours of held-out individuals, read from portraits by linear probes that were trained on
portraits of training individuals (features normalised as `pseudo_word` does); and how often a held-out picture finds
its caption among 64. Intervals are Wilson's.

    python benchmarks/image_tower.py                                    # the shipped tower
    python benchmarks/image_tower.py --before OLD.safetensors           # beside another checkpoint of the same shape
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float
from open_clip.model import CLIP
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from weft import zoo
from weft.zoo.judge.evaluate import as_json, machine, rate
from weft.zoo.training.clip import create, text_features, text_states
from weft.zoo.training.image_tower import KINDS, looks_of
from weft.zoo.training.pictures import pixels
from weft.zoo.training.tokenizer import load
from weft.zoo.world import HELD_OUT_SUBJECTS, TRAIN_SUBJECTS, portrait, sample
from weft.zoo.world.patterns import EMBLEMS, TRIMS

ROOT: Final = Path(__file__).parents[1]
TINY: Final = Path(zoo.__path__[0]) / "tiny"
GROUP: Final = 64
PARTS: Final = ("body", "second", "outline", "emblem")
NEAR: Final = 0.1
"""Root mean square over red, green and blue."""


@torch.no_grad()
def features(clip: CLIP, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n e"]:
    """Pooled features of pictures in [-1, 1]."""
    return torch.cat([clip.visual(part) for part in images.split(250)])


def portraits(pairs: list[tuple[int, int]]) -> Float[Tensor, "n 3 64 64"]:
    """Portraits of (individual, number), in [-1, 1]."""
    return torch.cat([pixels(portrait(*pair).image(64)[None]) for pair in pairs])


def ridge(
    known: Float[Tensor, "n e"], wanted: Float[Tensor, "n k"], penalty: float = 10.0
) -> Float[Tensor, "e k"]:
    """The linear map from features to what they should tell, by ridge regression."""
    return torch.linalg.solve(known.T @ known + penalty * torch.eye(known.shape[1]), known.T @ wanted)


def measure(weights: Path) -> dict[str, list[bool]]:
    """Outcomes of a checkpoint by what was asked."""
    clip = create(TINY / "open_clip" / "open_clip_config.json")
    clip.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    clip.eval()
    seen, unseen = (
        [(i, 5000) for i in TRAIN_SUBJECTS[:1500]],
        [(i, k) for i in HELD_OUT_SUBJECTS for k in range(3)],
    )
    known, asked = (F.layer_norm(features(clip, portraits(pairs)), (128,)) for pairs in (seen, unseen))
    (labels, colors), (answers, wanted) = looks_of([i for i, _ in seen]), looks_of([i for i, _ in unseen])
    found: dict[str, list[bool]] = {}
    for column, (name, words) in enumerate((("noun", KINDS), ("emblem", EMBLEMS), ("trim", TRIMS))):
        torch.manual_seed(column)
        probe = torch.nn.Linear(128, len(words))
        optimizer = torch.optim.Adam(probe.parameters(), 5e-3, weight_decay=1e-4)
        for _ in range(600):
            loss = F.cross_entropy(probe(known), labels[:, column])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[f"{name} of a held-out portrait (chance {100 / len(words):.0f} %)"] = (
            probe(asked).argmax(1) == answers[:, column]
        ).tolist()
    guessed = asked @ ridge(known, colors - colors.mean(0)) + colors.mean(0)
    error = rearrange((guessed - wanted).square(), "n (part channel) -> part n channel", channel=3)
    for part, off in zip(PARTS, error.mean(-1).sqrt(), strict=True):
        found[f"{part} colour of a held-out portrait, within {NEAR} of RGB's range"] = (off <= NEAR).tolist()
    pictures = [sample(7000 + i, "held_out") for i in range(10 * GROUP)]
    words = load(TINY / "tokenizer")
    ids = torch.tensor(
        words([p.caption(0) for p in pictures], padding="max_length", truncation=True).input_ids
    )
    with torch.no_grad():
        texts = text_features(clip, ids, text_states(clip, ids))
    images = F.normalize(features(clip, torch.cat([pixels(p.image(64)[None]) for p in pictures])), dim=-1)
    right = [
        (a @ b.T).argmax(1) == torch.arange(GROUP)
        for a, b in zip(images.split(GROUP), texts.split(GROUP), strict=True)
    ]
    found[f"caption of a held-out picture among {GROUP}"] = torch.cat(right).tolist()
    return found


def main() -> None:
    """Measure, print, write benchmarks/results/image_tower.json and .md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="another open_clip_model.safetensors")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    towers = {"shipped": TINY / "open_clip" / "open_clip_model.safetensors"}
    if arguments.before:
        towers["before"] = arguments.before
    rates = {
        name: {key: rate(value) for key, value in measure(path).items()} for name, path in towers.items()
    }
    lines = ["| tower | what | right | n | 95 % interval |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {key} | {value} |" for name, found in rates.items() for key, value in found.items()
    ]
    text = "\n".join(lines)
    print(text)
    command = shlex.join(["python", "benchmarks/image_tower.py", *(Path(a).name for a in sys.argv[1:])])
    where = machine()
    report = {"command": command, "machine": where, **{name: as_json(found) for name, found in rates.items()}}
    results = ROOT / "benchmarks/results"
    (results / "image_tower.json").write_text(json.dumps(report, indent=1) + "\n")
    about = (
        f"`{command}` on {where['cpu']}, {where['cores']} cores, torch {where['torch']}. Intervals: Wilson's."
    )
    (results / "image_tower.md").write_text(f"# The image tower of `tiny`\n\n{about}\n\n{text}\n")


if __name__ == "__main__":
    main()
