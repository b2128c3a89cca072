"""Fit the weights of `swatch` for the model `tiny`: seconds, the same bits whenever it runs.

    python train.py

For each of the world's colours, the target is the change that the colour word makes to the text state of the
noun behind it, the mean over all nouns. The map from red, green and blue is of least squares with a small
ridge: there are ten colours for four columns.
"""

from __future__ import annotations

import torch
import weft
from safetensors.torch import save_file
from weft.zoo.world.vocabulary import COLORS, NOUNS

from swatch import WEIGHTS

RIDGE = 1e-3


def main() -> None:
    text = weft.load("tiny", device="cpu").text

    def state(prompt: str, noun: str) -> torch.Tensor:
        tokens = text.tokens(prompt)
        positions = tokens.find(noun)
        assert positions is not None
        return text.encode(tokens)[positions[0]]

    with torch.inference_mode():
        changes = [
            torch.stack([state(f"a {color} {noun}", noun) - state(f"a {noun}", noun) for noun in NOUNS]).mean(
                0
            )
            for color in COLORS
        ]
    targets = torch.stack(changes).double()
    colors = torch.tensor([*COLORS.values()], dtype=torch.float64) / 255.0
    inputs = torch.cat([colors, torch.ones(len(colors), 1, dtype=torch.float64)], dim=1)
    normal = inputs.T @ inputs + RIDGE * torch.eye(4, dtype=torch.float64)
    solution = torch.linalg.solve(normal, inputs.T @ targets).float()
    save_file({"weight": solution[:3].T.contiguous(), "bias": solution[3].contiguous()}, WEIGHTS)
    left = float(
        ((inputs @ solution.double() - targets) ** 2).sum() / (targets - targets.mean(0)).square().sum()
    )
    print(f"{WEIGHTS.name}: {1 - left:.2f} of the variance over colours is explained")


if __name__ == "__main__":
    main()
