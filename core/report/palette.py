"""The colours of subjects and of curves. Free of torch."""

from __future__ import annotations

# Okabe and Ito's palette, which colour-blind readers tell apart (https://jfly.uni-koeln.de/color), and two more
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#6A5D00")


def color_of(number: int) -> str:
    """The colour of the subject or curve of this number, from 0; they repeat."""
    return COLORS[number % len(COLORS)]
