"""Words that a tokenizer does not know: the vectors that they stand for, and where a text holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from ..errors import PluginError, UserError


@dataclass(frozen=True, eq=False)
class Word:
    """What one word stands for.

    Args:
        vectors: a token embedding for each of the n tokens that the word takes.
        strength: at s each is ``plain + s * (vector - plain)``, where plain is the embedding of the token that the
            tokenizer itself reads there.
    """

    vectors: Float[Tensor, "n d"]
    strength: float = 1.0


Words: TypeAlias = Mapping[str, Word]
"""By the word as prompts write it; upper and lower case are the same, as CLIP's tokenizer reads them."""


def checked(vectors: Mapping[str, Tensor], plugin: str, width: int) -> dict[str, Tensor]:
    """The words of one conditioner, after a look at their form.

    Args:
        vectors: by word.
        plugin: the conditioner's name, for the error.
        width: channels of a token embedding.

    Raises:
        PluginError: a word is empty or begins or ends with a space, or its vectors are not of shape (n, width).
    """
    for word, tensor in vectors.items():
        if not isinstance(word, str) or not word or word != word.strip():
            raise PluginError(plugin, "words", f"expected a word without spaces around it, found {word!r}")
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if not isinstance(tensor, Tensor) or tensor.ndim != 2 or not len(tensor) or tensor.shape[1] != width:
            raise PluginError(
                plugin,
                f"words, '{word}'",
                f"expected vectors of shape (n, {width}), n at least 1, found {shape}",
            )
    return dict(vectors)


def refuse_shared(brought: Mapping[str, Iterable[str]]) -> None:
    """Refuse a word that two conditioners bring.

    Args:
        brought: words, by the conditioner that brings them.

    Raises:
        UserError: it names the word and both.
    """
    owners: dict[str, str] = {}
    for name, words in brought.items():
        for word in words:
            if (other := owners.setdefault(word.lower(), name)) != name:
                hint = "Rename the word in one of them, or leave one out."
                raise UserError(
                    f"word '{word}'", "one conditioner that brings it", f"'{other}' and '{name}'", hint
                )


def occurrences(text: str, words: Iterable[str]) -> list[tuple[int, int, str]]:
    """Where a text holds words: (start, end, word), in order, the longest where several begin at one place.

    A word that begins or ends with a letter or digit is not looked for within a longer one: "sks" is not in "asks".
    """
    ordered = tuple(sorted(words, key=lambda word: (-len(word), word)))
    if not ordered:
        return []
    return [
        (*match.span(), ordered[match.lastindex - 1])
        for match in _pattern(ordered).finditer(text)
        if match.lastindex
    ]


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    parts = []
    for word in words:
        before = r"(?<!\w)" if re.match(r"\w", word) else ""
        after = r"(?!\w)" if re.search(r"\w$", word) else ""
        parts.append(f"({before}{re.escape(word)}{after})")
    return re.compile("|".join(parts), re.IGNORECASE)
