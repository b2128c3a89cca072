"""What the benchmarks by the judge share: options, scores that survive a kill, intervals of paired cases, reports."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from weft.core.report.statistics import resampled
from weft.zoo.judge.evaluate import machine

from . import ROOT

ENOUGH: Final = 200
"""Cases that a result takes; fewer are a look."""

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Of sums by case, (resamples, columns), one number a resample."""


@dataclass(frozen=True)
class Kept:
    """Scores on disk, one line for each arm and case, so that a killed run goes on where it was.

    Args:
        path: of the file; what it holds is read at once, and a half line at its end is dropped.
    """

    path: Path
    done: dict[tuple[str, int], list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            whole = self.path.read_text().rpartition("\n")[0]
            self.path.write_text(whole + "\n" if whole else "")
            for line in whole.splitlines():
                row = json.loads(line)
                self.done[row["arm"], row["number"]] = row["images"]

    @staticmethod
    def of_part(folder: Path, key: str, part: tuple[int, int]) -> Kept:
        """The scores of the i-th of n processes, each of which has a file of its own; of all of them where n is 1."""
        number, parts = part
        if parts > 1:
            return Kept(folder / f"{key}-{number}of{parts}.jsonl")
        kept = Kept(folder / f"{key}.jsonl")
        for path in sorted(folder.glob(f"{key}-*.jsonl")):
            kept.done.update(Kept(path).done)
        return kept

    def add(self, arm: str, number: int, images: list[Any]) -> None:
        self.done[arm, number] = images
        with self.path.open("a") as file:
            file.write(json.dumps({"arm": arm, "number": number, "images": images}) + "\n")


def part(text: str) -> tuple[int, int]:
    """The argument ``--part``: ``0/2`` is the first of two processes."""
    number, parts = map(int, text.split("/"))
    if not 0 <= number < parts:
        raise ValueError(text)
    return number, parts


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """The options of every such benchmark: how many cases, where scores are kept, which part of the work."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--cases", type=int, default=ENOUGH, help=f"cases a row; fewer than {ENOUGH} write no results"
    )
    made.add_argument("--kept", type=Path, default=ROOT / "runs" / name, help="where scores are kept")
    made.add_argument("--part", type=part, default=(0, 1), help="which of how many processes this is")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    return made


def write(name: str, title: str, about: str, text: str, report: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and NAME.md, with the command and the machine."""
    where, command = machine(), shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    results = ROOT / "benchmarks/results"
    (results / f"{name}.json").write_text(
        json.dumps({"command": command, "machine": where, **report}, indent=1) + "\n"
    )
    ran = (
        f"`{command}` on {where['cpu']}, {where['cores']} cores, torch {where['torch']}, "
        f"diffusers {where['diffusers']}."
    )
    (results / f"{name}.md").write_text(f"# {title}\n\n{about}\n\n{ran}\n\n{text}\n")


def digest(*parts: Any) -> str:
    """Names the file of scores by all that they depend on."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def interval(table: Sequence[Sequence[float]], statistic: Statistic) -> dict[str, Any]:
    """A statistic of sums over cases, with the percentile interval of its bootstrap over cases.

    All images of a case, in all its columns, are drawn together, so arms that share
    their noise stay paired.

    Args:
        table: one row a case.
        statistic: of the columns' sums.
    """
    rows = np.array(table, dtype=np.float64)

    def of(picks: NDArray[np.int64]) -> NDArray[np.float64]:
        return statistic(np.stack([column[picks].sum(axis=1) for column in rows.T], axis=1))

    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(rows.sum(axis=0)[None])[0])
        low, high = resampled(of, len(rows))
    return {
        "value": round(value, 4),
        "interval": [round(low, 4), round(high, 4)],
        "cases": len(rows),
    }


def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first column's sum by the second's."""
    return np.asarray(sums[:, 0] / sums[:, 1])


def gain(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(first - second) / third."""
    return np.asarray((sums[:, 0] - sums[:, 1]) / sums[:, 2])


def pixels(images: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures as the judge reads them, (n, 3, h, w) in [0, 1]."""
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]).float() / 255


def percent(rate: dict[str, Any]) -> str:
    """A share with its interval, for a table."""
    low, high = rate["interval"]
    return f"{100 * rate['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
