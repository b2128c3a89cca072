"""The prompt of Subject-Diffusion: "<prompt>, the <noun> is <placeholder>" for every subject. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLACEHOLDER = "sks"
"""The released code's placeholder, one token of CLIP's vocabulary that hardly occurs in captions."""


@dataclass(frozen=True)
class ExtendedPrompt:
    """A prompt with a clause for every subject.

    Args:
        text: the whole.
        placeholders: the character range of every subject's placeholder in it.
    """

    text: str
    placeholders: tuple[tuple[int, int], ...]


def extend(prompt: str, nouns: Sequence[str], placeholder: str = PLACEHOLDER) -> ExtendedPrompt:
    """Add a clause for every noun (arXiv 2307.11410, section 3.2).

    The clauses are a suffix, so the tokens of the prompt's words keep their positions; punctuation at its end, which
    the tokenizer would join with the comma, is left out.
    """
    text, ranges = prompt.rstrip(" \t\n.,;:!?"), []
    for noun in nouns:
        text += f", the {noun} is "
        ranges.append((len(text), len(text) + len(placeholder)))
        text += placeholder
    return ExtendedPrompt(text, tuple(ranges))
