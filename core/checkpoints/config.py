"""Checking model configurations before known classes are built of them: plain values, within bounds. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import UserError

# A model of a billion layers is built for hours before its tensors can be compared.
MOST = {
    "attention_head_dim": 4096,
    "block_out_channels": 16_384,
    "layers_per_block": 16,
    "num_attention_heads": 4096,
    "num_hidden_layers": 128,
    "num_train_timesteps": 10_000,
    "reverse_transformer_layers_per_block": 32,
    "transformer_layers_per_block": 32,
}
NUMBER = 10_000_000
ENTRIES = {"trained_betas": 10_000}
ENTRIES_OF_OTHERS = 64
UNBOUNDED = frozenset({"lambda_min_clipped"})
"""What schedulers of diffusers have at minus infinity by default."""
CHARACTERS = 200


def plain_config(config: Mapping[str, Any], fields: Collection[str], place: str) -> dict[str, Any]:
    """The fields of a configuration that a class takes; everything else in it, such as ``auto_map``, is left out.

    Args:
        config: as a file says.
        fields: the names that the class takes.
        place: what the error names, for example ``"file 'unet/config.json'"``.

    Raises:
        UserError: a value is no plain one, or out of bounds.
    """
    chosen = {name: value for name, value in config.items() if name in fields and not name.startswith("_")}
    for name, value in chosen.items():
        _check(value, name, f"{place}, field '{name}'", depth=0)
    return chosen


def _check(value: Any, name: str, place: str, depth: int) -> None:
    if isinstance(value, list) and depth < 3:
        most = ENTRIES.get(name, ENTRIES_OF_OTHERS)
        if len(value) > most:
            raise UserError(place, f"at most {most} values", str(len(value)))
        for item in value:
            _check(item, name, place, depth + 1)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, (int, float)):
        bound = MOST.get(name, NUMBER)
        if name in UNBOUNDED and value == -math.inf:
            return
        if not abs(value) <= bound:
            raise UserError(place, f"at most {bound}", f"{value:.3g}")
        if name in MOST and value < 1:
            raise UserError(place, "at least 1", str(value))
    elif not isinstance(value, str) or len(value) > CHARACTERS:
        raise UserError(place, "a number, a short text or a list of them", type(value).__name__)
