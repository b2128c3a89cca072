"""What do chains of guidance do to words, and to an individual shown by one picture?

- words: held-out captions of two objects. Counted: images in which both are seen in their colours; objects that are
  not; the caption's background.
- an individual: held-out ones on a background that their reference picture does not show (the cases of
  ``conditioners.py``). Counted: it is nearest to itself among 50; its noun is seen; the prompt's background.

All chains draw a case from the same noise; the judge, ``weft.zoo.judge``, reads. Intervals are bootstraps over cases.
`fusing` has a table of its own (``alpha_tradeoff.py``), and so have `attend_and_excite` and `layout`
(``guidance_effect.py``).

    python benchmarks/strategies.py                # all chains, an hour on 2 cores; a killed run goes on
    python benchmarks/strategies.py --cases 10     # a quick look, to the console alone
    python benchmarks/strategies.py --part 0/2     # one of two processes that share the work; then without it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from bench_helpers.judged import ENOUGH, Kept, digest, interval, parser, percent, ratio, write
from conditioners import CHUNK, Case, Settings, alone, made, measure, used

import weft
from weft import zoo
from weft.zoo import world


def pairs(number: int) -> Case:
    """A held-out caption of two objects, a subject for each."""
    picture = world.sample(80_000 + number, "held_out", count=2, subjects=0.0)
    nouns = [thing.noun for thing in picture.objects]
    subjects = [
        weft.Subject(noun, occurrence=1 + i if nouns[0] == nouns[1] else None) for i, noun in enumerate(nouns)
    ]
    scene = weft.Scene(world.describe(picture.background, picture.objects), subjects)
    return Case(scene, picture.objects, picture.background)


@dataclass(frozen=True)
class Group:
    """Cases, and what is counted on them: for each image and measure (so many, of how many)."""

    cases: Callable[[int], Case]
    counts: Callable[[Case, dict[str, Any]], dict[str, tuple[float, float]]]


@dataclass(frozen=True)
class Chain:
    """A chain of guidance, beside conditioners."""

    group: str
    guidance: tuple[weft.Guidance, ...]
    conditioners: tuple[str, ...] = ()


def words(case: Case, found: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Both objects right, objects lost, background."""
    wanted = Counter((thing.noun, thing.color) for thing in case.things)
    lost = (wanted - Counter((noun, color) for noun, color, _, _ in found["seen"])).total()
    return {
        "both right": (float(lost == 0), 1),
        "objects lost": (lost, len(case.things)),
        "background": (float(found["background"]), 1),
    }


def individual(case: Case, found: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Identity among 50, noun, background."""
    return {name: (float(found[name]), 1) for name in ("identity", "noun", "background")}


CFG: Final = weft.ClassifierFree
GROUPS: Final = {"words": Group(pairs, words), "individual": Group(alone(1), individual)}
APG: Final = {
    "guidance_scale": 7.5,
    "eta": 0.0,
    "adaptive_projected_guidance_momentum": -0.5,
    "adaptive_projected_guidance_rescale": 1.0,
}
"""As in the paper no parallel part and a negative momentum; 1 is half the norm that the difference of the tiny model's
predictions has. diffusers' defaults (eta 1, norms up to 15) would be plain guidance on it."""
CHAINS: Final = {
    "`classifier_free`, scale 1": Chain("words", (CFG(1.0),)),
    "`classifier_free`, scale 3": Chain("words", (CFG(3.0),)),
    "`classifier_free`, scale 7.5": Chain("words", (CFG(7.5),)),
    "`classifier_free`, scale 15": Chain("words", (CFG(15.0),)),
    "`classifier_free`, scale 15, rescale 0.7": Chain("words", (CFG(15.0, rescale=0.7),)),
    "`classifier_free`, scale 7.5, interval 0.1 to 0.8": Chain("words", (CFG(7.5, interval=(0.1, 0.8)),)),
    "`composable`, the scene at 5 AND each object at 1.25": Chain(
        "words", (weft.Composable(5.0, subjects=(1.25, 1.25)),)
    ),
    "`diffusers_guider`, APG at 7.5": Chain(
        "words", (weft.DiffusersGuider("AdaptiveProjectedGuidance", APG),)
    ),
    "`pseudo_word`, `classifier_free` 3": Chain("individual", (CFG(3.0),), ("pseudo_word",)),
    "`pseudo_word`, `delayed`, from 0.3 on": Chain(
        "individual", (CFG(3.0), weft.Delayed("pseudo_word", (0.3, 1.0))), ("pseudo_word",)
    ),
    "`pseudo_word`, `delayed`, until 0.8": Chain(
        "individual", (CFG(3.0), weft.Delayed("pseudo_word", (0.0, 0.8))), ("pseudo_word",)
    ),
    "`subject_adapter`, `classifier_free` 3": Chain("individual", (CFG(3.0),), ("subject_adapter",)),
    "`subject_adapter`, `instruct`, text 3, image 1": Chain(
        "individual", (weft.Instruct(3.0, 1.0),), ("subject_adapter",)
    ),
    "`subject_adapter`, `instruct`, text 3, image 2": Chain(
        "individual", (weft.Instruct(3.0, 2.0),), ("subject_adapter",)
    ),
}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: for each group of cases, a line a chain."""
    blocks = []
    for group in GROUPS:
        rows = {title: found for title, found in results.items() if CHAINS[title].group == group}
        if rows:
            names = list(next(iter(rows.values())))
            lines = [f"| {' | '.join(['chain', *names])} |", "|---" * (len(names) + 1) + "|"]
            lines += [
                f"| {' | '.join([title, *(percent(found[name]) for name in names)])} |"
                for title, found in rows.items()
            ]
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def main() -> None:
    """Draw, read, write benchmarks/results/strategies.json and .md."""
    options = parser(__doc__, "strategies").parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings()
    folder = Path(zoo.__path__[0]) / "tiny"
    pipe = weft.load(str(folder))
    results: dict[str, dict[str, Any]] = {}
    taken: dict[str, str] = {}
    for title, chain in CHAINS.items():
        group = GROUPS[chain.group]
        weights = used(folder, folder / "weft", chain.conditioners)
        taken |= weights
        # the title only names the arm: what decides is the chain
        key = digest(asdict(settings), weights, CHUNK, chain.group, [repr(one) for one in chain.guidance])
        kept = Kept.of_part(options.kept, key, options.part)
        conditioners = [made(name, folder / "weft") for name in chain.conditioners]
        measure(
            pipe,
            title,
            group.cases,
            conditioners,
            options.cases,
            settings,
            kept,
            options.part,
            chain.guidance,
        )
        if options.part[1] == 1:
            counted = [
                [group.counts(group.cases(n), found) for found in kept.done[title, n]]
                for n in range(options.cases)
            ]
            results[title] = {
                name: interval(
                    [[sum(image[name][k] for image in case) for k in (0, 1)] for case in counted], ratio
                )
                for name in counted[0][0]
            }
    if options.part[1] > 1:
        return
    text = table(results)
    print(text)
    if options.cases < ENOUGH:
        return
    about = (
        f"{options.cases} held-out cases a chain, {settings.seeds} seeds, {settings.steps} steps of "
        f"{settings.scheduler}, read by the judge; 95 % intervals by bootstrap over cases. First two objects of a "
        "caption, then an individual of one reference picture."
    )
    report = {"settings": asdict(settings), "weights": taken, "rows": results}
    write("strategies", "Chains of guidance", about, text, report)


if __name__ == "__main__":
    main()
