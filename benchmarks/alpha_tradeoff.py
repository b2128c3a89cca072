"""What does alpha of `fusing` trade? Identity against the text, alpha in 0, 0.1, ..., 1.

A held-out individual is shown in one reference picture on one background, and the prompt asks for another. Every image
is drawn from the same noise at every alpha and read by the judge, ``weft.zoo.judge``:

- identity: the thing of the noun is nearest to that individual among 50 held-out ones (not seen is wrong);
- text: the noun is seen, and the background is the prompt's and not the reference's.

Intervals are bootstraps over cases. Alpha 0 is the model without the reference, alpha 1 the conditioner alone.

    python benchmarks/alpha_tradeoff.py                # 200 cases, hours on 2 cores; a killed run goes on
    python benchmarks/alpha_tradeoff.py --cases 4      # a quick look, to the console alone
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from bench_helpers import ROOT
from bench_helpers.judged import ENOUGH, Kept, digest, interval, parser, percent, pixels, ratio, write
from conditioners import alone, score

import weft
from weft import zoo
from weft.core.report.plot import Curve, draw_panels
from weft.zoo import judge
from weft.zoo.judge.evaluate import digests

ALPHAS: Final = tuple(round(0.1 * i, 1) for i in range(11))
CHUNK: Final = 10
MEASURES: Final = ("identity", "text")


@dataclass(frozen=True)
class Settings:
    """What a result depends on, besides the weights."""

    seeds: int = 4
    steps: int = 12
    scheduler: str = "dpmpp_2m"
    scale: float = 3.0


def measure(pipe: weft.Pipeline, count: int, settings: Settings, kept: Kept, share: tuple[int, int]) -> None:
    """Draw and read what is not kept yet; of ``share`` = (i, n) every n-th chunk, from the i-th on."""
    case = alone(1)
    jobs = [(alpha, start) for start in range(0, count, CHUNK) for alpha in ALPHAS]
    begun = time.monotonic()
    for index, (alpha, start) in list(enumerate(jobs))[share[0] :: share[1]]:
        numbers = [n for n in range(start, min(start + CHUNK, count)) if (str(alpha), n) not in kept.done]
        if not numbers:
            continue
        chosen = [case(number) for number in numbers]
        first = 300_000 + start // CHUNK * settings.seeds
        result = pipe.generate(
            [one.scene for one in chosen],
            conditioners=["pseudo_word"],
            guidance=[weft.Fusing(alpha), weft.ClassifierFree(settings.scale)],
            steps=settings.steps,
            scheduler=settings.scheduler,
            seeds=range(first, first + settings.seeds),
            batch_size=CHUNK * settings.seeds,
            attention=False,
        )
        shown = pixels(result.images)
        readings = judge.read(shown)
        for k, (number, one) in enumerate(zip(numbers, chosen, strict=True)):
            images = []
            for i in range(k * settings.seeds, (k + 1) * settings.seeds):
                found = score(one, shown[i], readings[i])
                text = found["noun"] and found["background"]
                images.append({"identity": float(found["identity"]), "text": float(text)})
            kept.add(str(alpha), number, images)
        print(
            f"alpha {alpha}, {numbers[-1] + 1}: {time.monotonic() - begun:.0f} s, {index + 1} of {len(jobs)}",
            flush=True,
        )


def summary(kept: Kept, count: int) -> dict[str, dict[str, Any]]:
    """Every alpha's rates over the cases that all of them have."""
    numbers = [n for n in range(count) if all((str(alpha), n) in kept.done for alpha in ALPHAS)]
    rates: dict[str, dict[str, Any]] = {}
    for alpha in ALPHAS:
        images = [kept.done[str(alpha), n] for n in numbers]
        rates[str(alpha)] = {
            name: interval([[sum(one[name] for one in case), len(case)] for case in images], ratio)
            for name in MEASURES
        }
    return rates


def main() -> None:
    """Draw, read, write benchmarks/results/alpha_tradeoff.json, .md and .png."""
    asked = parser(__doc__, "alpha_tradeoff")
    asked.add_argument("--seeds", type=int, default=Settings.seeds)
    asked.add_argument("--steps", type=int, default=Settings.steps)
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(options.seeds, options.steps)
    folder = Path(zoo.__path__[0]) / "tiny"
    # the other plugins' weights take no part
    model = {k: v for k, v in digests(folder).items() if not k.startswith("weft/") or "pseudo_word" in k}
    weights = model | {f"judge/{k}": v for k, v in digests(Path(judge.__path__[0])).items()}
    key = digest(asdict(settings), weights, CHUNK)
    kept = Kept.of_part(options.kept, key, options.part)
    measure(weft.load(str(folder)), options.cases, settings, kept, options.part)
    if options.part[1] > 1:
        return
    rates = summary(kept, options.cases)
    lines = ["| alpha | identity, of 50 | text |", "|---|---|---|"]
    lines += [
        f"| {alpha} | {percent(one['identity'])} | {percent(one['text'])} |" for alpha, one in rates.items()
    ]
    text = "\n".join(lines)
    print(text)
    if options.cases < ENOUGH:
        return
    curves = [
        Curve(name, ALPHAS, [(low, one["value"], high) for one in of_name for low, high in [one["interval"]]])
        for name in MEASURES
        for of_name in [[rate[name] for rate in rates.values()]]
    ]
    plot = draw_panels({"identity and text": curves}, "alpha")
    plot.save(ROOT / "benchmarks/results/alpha_tradeoff.png", optimize=True)
    about = (
        f"{options.cases} held-out individuals, {settings.seeds} seeds, {settings.steps} steps of {settings.scheduler} "
        f"and classifier-free guidance {settings.scale}; the prompt asks for another background than the reference "
        "shows. 95 % intervals by bootstrap over cases."
    )
    shown = f"![the table as curves](alpha_tradeoff.png)\n\n{text}"
    report = {"settings": asdict(settings), "weights": weights, "rates": rates}
    write("alpha_tradeoff", "Alpha: identity against the text", about, shown, report)


if __name__ == "__main__":
    main()
