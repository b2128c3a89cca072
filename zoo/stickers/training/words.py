"""The words that the tokenizer must know."""

from __future__ import annotations

from ...training.tokenizer import common_words
from ..captions import BACKGROUND_PHRASES, LEAD_INS, RELATIONS
from ..vocabulary import CATEGORIES, COLORS, NOUNS


def words() -> list[str]:
    """The common words and those of the world's grammar."""
    phrases = [*NOUNS, *CATEGORIES, *COLORS, *LEAD_INS, *RELATIONS]
    phrases += [words for several in BACKGROUND_PHRASES.values() for words in several]
    spoken = {word for text in phrases for word in text.split()} | {"a", "an", "and", "some", ","}
    return sorted({*common_words(), *spoken, *(f"{word}," for word in spoken)})
