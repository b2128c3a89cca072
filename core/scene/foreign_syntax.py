"""What other programs read in a prompt, and Weft draws as plain words. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WEIGHT = (
    "A weight in a prompt is no more than words here: guidance strategies emphasise (`weft plugins list`)."
)
_SECTION = "It belongs under 'conditioners', in a section of its own."
_FOREIGN = (
    (
        re.compile(r"<(?:lora|lyco|lycoris|hypernet):[^<>]*>"),
        _SECTION,
    ),
    (re.compile(r"\([^()]*[^()\d\s]\s*:\s*[-+]?(?:\d?\.\d+|\d)\s*\)"), _WEIGHT),
    (re.compile(r"\{\{[^{}]+\}\}|\(\([^()]+\)\)"), _WEIGHT),
    (re.compile(r"\w{3,}(?:\++|-{2,})(?=[\s,.]|$)"), _WEIGHT),
    (
        re.compile(r"\[[^\[\]:]*:[^\[\]:]*:\s*\d*\.?\d+\s*\]"),
        "Words that change over the steps are not read.",
    ),
    (
        re.compile(r"(?<!\w)(?:BREAK|AND)(?!\w)"),
        "A guidance strategy adds the predictions of several prompts (`weft plugins list`).",
    ),
    (re.compile(r"(?<!\w)embedding:\S+"), _SECTION),
)


def foreign_syntax(prompt: str) -> Iterator[tuple[str, str]]:
    """What stands in a prompt that other programs would not draw as words, and what to do about it."""
    for pattern, hint in _FOREIGN:
        if match := pattern.search(prompt):
            yield match[0], hint
