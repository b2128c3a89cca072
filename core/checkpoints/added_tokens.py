"""Tokens that a tokenizer's folder adds to its vocabulary: read whole, never split into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import AddedToken

from ..errors import UserError
from ..storage.strict_json import read_config

MAX_ADDED = 10_000
MAX_CHARACTERS = 200
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def added_tokens(folder: Path, vocab: Mapping[str, int]) -> list[AddedToken]:
    """The tokens that ``tokenizer.json``, ``tokenizer_config.json`` or ``added_tokens.json`` add, by their numbers.

    Raises:
        UserError: one is not a short text, files do not agree, or the numbers do not follow those of the vocabulary.
    """
    texts = {number: piece for piece, number in vocab.items()}
    tokens: dict[int, AddedToken] = {}
    for file, number, content, flags in _entries(folder):
        place = f"file '{folder.name}/{file}', added token {number!r}"
        if type(number) is not int or not isinstance(content, str) or not 1 <= len(content) <= MAX_CHARACTERS:
            raise UserError(place, f"a number with 1 to {MAX_CHARACTERS} characters", f"{content!r:.60}")
        if (here := texts.setdefault(number, content)) != content or vocab.get(content, number) != number:
            raise UserError(place, f"what the other files say, '{here:.60}'", f"'{content:.60}'")
        tokens[number] = AddedToken(content, **flags)
    beyond = sorted(number for number in tokens if not 0 <= number < len(vocab))
    if beyond != list(range(len(vocab), len(vocab) + len(beyond))) or len(beyond) > MAX_ADDED:
        expected = f"at most {MAX_ADDED} added tokens whose numbers follow {len(vocab) - 1}"
        raise UserError(f"folder '{folder.name}'", expected, f"{beyond[:3]} ({len(beyond)})")
    return [tokens[number] for number in sorted(tokens)]


def _entries(folder: Path) -> Iterable[tuple[str, Any, Any, dict[str, bool]]]:
    """(file, number, content, flags) of every entry, the later files saying more of its flags."""
    if (folder / (file := "added_tokens.json")).is_file():
        for content, number in read_config(folder / file).items():
            yield file, number, content, {}
    if (folder / (file := "tokenizer.json")).is_file():
        listed = read_config(folder / file, limit=16_000_000).get("added_tokens", [])
        for entry in listed if isinstance(listed, list) else [listed]:
            yield file, *_described(entry, entry.get("id") if isinstance(entry, dict) else None)
    if (folder / (file := "tokenizer_config.json")).is_file():
        listed = read_config(folder / file).get("added_tokens_decoder", {})
        for name, entry in listed.items() if isinstance(listed, dict) else [("", listed)]:
            yield file, *_described(entry, int(name) if re.fullmatch(r"[0-9]{1,9}", name) else name)


def _described(entry: Any, number: Any) -> tuple[Any, Any, dict[str, bool]]:
    if not isinstance(entry, dict):
        return number, None, {}
    return number, entry.get("content"), {name: bool(entry[name]) for name in FLAGS if name in entry}
