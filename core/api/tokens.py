"""Reading a text in tokens, with words that the tokenizer does not know, and laying them out in sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from .words import Words, occurrences

BACKTRACK = 20
"""Tokens that move to the next sequence so that a clause is not broken: AUTOMATIC1111's ``comma_padding_backtrack``."""


class Token(NamedTuple):
    """One token.

    Args:
        id: in the vocabulary.
        start, end: its characters; 0 and 0 for a special token.
        word: the new word that it is of.
        number: which of the word's vectors stands here.
    """

    id: int
    start: int = 0
    end: int = 0
    word: str | None = None
    number: int = 0


def read(tokenizer: Any, text: str, words: Words) -> list[Token]:
    """The tokens of a text, without special tokens, a new word as many as it has vectors.

    The tokenizer's settings for padding and truncation stay as they are: it is shared by threads.
    """
    tokens: list[Token] = []
    position = 0
    for start, end, word in occurrences(text, words):
        tokens += _plain(tokenizer, text[position:start], position)
        plain = [token.id for token in _plain(tokenizer, text[start:end], start)] or [tokenizer.eos_token_id]
        last = len(plain) - 1
        tokens += [
            Token(plain[min(number, last)], start, end, word, number)
            for number in range(len(words[word].vectors))
        ]
        position = end
    return tokens + _plain(tokenizer, text[position:], position)


def in_sequences(tokens: Sequence[Token], room: int, sequences: int, tokenizer: Any) -> list[list[Token]]:
    """Tokens in rows of at most ``room``: the first ``sequences`` are kept, and what follows is too much.

    One row is filled to its end. Several are filled as AUTOMATIC1111 does (`sd_hijack_clip.py`): a new word is not
    broken, and what follows a comma among the last `BACKTRACK` tokens moves to the next row.
    """
    if sequences == 1:
        return [list(tokens[:room]), *([list(tokens[room:])] if len(tokens) > room else [])]
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    rows: list[list[Token]] = [[]]
    after_comma = 0
    for together in _unbroken(tokens, room):
        row = rows[-1]
        if together[0].id == comma and together[0].word is None:
            after_comma = len(row) + 1
        elif len(row) == room and after_comma and room - after_comma < BACKTRACK:
            rows.append(row[after_comma:])
            del row[after_comma:]
            after_comma = 0
        if len(rows[-1]) + len(together) > room:
            rows.append([])
            after_comma = 0
        rows[-1] += together
    return rows


def _unbroken(tokens: Sequence[Token], room: int) -> Iterator[list[Token]]:
    """Tokens that stay in one row: those of a new word, unless it is longer than a row."""
    for (word, _), run in groupby(tokens, lambda token: (token.word, token.start)):
        together = list(run)
        if word is not None and len(together) <= room:
            yield together
        else:
            yield from ([token] for token in together)


def _plain(tokenizer: Any, text: str, position: int) -> list[Token]:
    if not text:
        return []
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        Token(int(number), int(a) + position, int(b) + position)
        for number, (a, b) in zip(read["input_ids"], read["offset_mapping"], strict=True)
    ]
