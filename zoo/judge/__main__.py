"""``python -m weft.zoo.judge detector|identity|segmenter|evaluate [--out DIR]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def main() -> None:
    """Train one of the networks, or measure all of them and write the card."""
    parser = argparse.ArgumentParser(prog="python -m weft.zoo.judge", description=__doc__)
    parser.add_argument("task", choices=["detector", "identity", "segmenter", "evaluate"])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/judge"), help="where checkpoints and weights go"
    )
    parser.add_argument(
        "--weights", type=Path, help="evaluate: measure these weights (default: the shipped ones)"
    )
    parser.add_argument("--results", type=Path, help="evaluate: a folder that gets judge.json and judge.md")
    parser.add_argument("--threads", type=int, default=2, help="threads, and processes that render")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.task == "evaluate":
        from .evaluate import evaluate

        print(evaluate(arguments.weights, arguments.results))
    else:
        from .train import train

        train(arguments.task, arguments.out)


if __name__ == "__main__":
    main()
