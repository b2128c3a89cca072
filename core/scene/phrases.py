"""Where a phrase stands in a text. Free of torch."""

from __future__ import annotations

import re
import unicodedata

_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
    "\u1100-\u11ff\uac00-\ud7ff"  # Korean
)
_STANDS_ALONE = re.compile(f"[{_NO_SPACES}]")
_LETTER = f"[^\\W{_NO_SPACES}]"
_ACCENT = "\u0300-\u036f"


def occurrences(text: str, phrase: str) -> list[tuple[int, int]]:
    """Character ranges (start, end) of a phrase, in order, as whole words, whatever the case; see `locate`."""
    words = [_either_form(word) for word in phrase.split()]
    if not words:
        return []
    before = "" if _STANDS_ALONE.match(phrase.strip()) else f"(?<!{_LETTER})"
    after = "" if _STANDS_ALONE.match(phrase.strip()[-1]) else f"(?!{_LETTER})"
    pattern = before + r"\s+".join(words) + f"(?![{_ACCENT}])" + after
    return [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]


def _either_form(word: str) -> str:
    """A pattern of a word, each of its letters composed or decomposed (Unicode, annex 15)."""
    letters = []
    for letter in unicodedata.normalize("NFC", word):
        apart = unicodedata.normalize("NFD", letter)
        letters.append(
            re.escape(letter) if apart == letter else f"(?:{re.escape(letter)}|{re.escape(apart)})"
        )
    return "".join(letters)
