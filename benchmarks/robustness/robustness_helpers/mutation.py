"""Mutating bytes: flips, cuts, repetitions, splices, and pieces that formats stumble over."""

from __future__ import annotations

import random
from collections.abc import Sequence


def mutate(
    data: bytes, others: Sequence[bytes], pieces: Sequence[bytes], rng: random.Random, most: int = 6
) -> bytes:
    """One or more changes of a file.

    Args:
        others: files to splice from.
        pieces: bytes to insert.
        most: changes, at most.
    """
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 2, 4, 16, 64, 256)))
        match rng.randrange(7):
            case 0 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at] + rng.randbytes(rng.choice((1, 2, 4, 8))) + data[to:]
            case 2:
                data = data[:at] + data[to:]
            case 3:
                data = data[:to] + data[at:to] * rng.choice((1, 2, 30)) + data[to:]
            case 4:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                data = data[:at] + other[start : start + rng.choice((4, 32, 256))] + data[to:]
            case 5:
                data = data[:at] + rng.choice(pieces) + data[at:]
            case _:
                data = (
                    data[: max(1, at)] if rng.random() < 0.3 else data[:at] + rng.choice(pieces) + data[to:]
                )
    return data
