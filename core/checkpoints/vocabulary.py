"""The byte-pair vocabulary of a tokenizer's folder, and how many tokens a text takes. Free of torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..storage.strict_json import read_config

LENGTH = 77
"""Tokens that CLIP's text transformer reads, start and end token among them."""
MAX_WORDS = 1_000_000
MAX_MERGES_BYTES = 16_000_000
START, END = "<|startoftext|>", "<|endoftext|>"

Vocabulary = tuple[dict[str, int], list[tuple[str, str]]]
"""Numbers of pieces, and the pairs that are merged, in order."""


def own_vocabulary(folder: Path) -> Vocabulary | None:
    """That of ``vocab.json`` with ``merges.txt``, or of ``tokenizer.json``; None where a folder has neither.

    Raises:
        UserError: the files are there but are not a byte-pair vocabulary.
    """
    if (folder / "vocab.json").is_file():
        vocab = read_config(folder / "vocab.json", limit=8_000_000)
        lines = _lines(folder / "merges.txt")
        return _checked(
            folder, vocab, [line.split() for line in lines if line and not line.startswith("#version")]
        )
    if (folder / "tokenizer.json").is_file():
        model = read_config(folder / "tokenizer.json", limit=16_000_000).get("model")
        if not isinstance(model, dict) or not isinstance(model.get("merges"), list):
            raise no_vocabulary(folder, "something else")
        merges = [pair.split() if isinstance(pair, str) else pair for pair in model["merges"]]
        return _checked(folder, model.get("vocab"), merges)
    return None


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_MERGES_BYTES:
            raise UserError(f"file '{path}'", f"at most {MAX_MERGES_BYTES} bytes", "more")
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"file '{path}'", "a list of merges in UTF-8", str(error)) from None


def _checked(folder: Path, vocab: Any, merges: list[Any]) -> Vocabulary:
    whole = isinstance(vocab, dict) and {START, END} <= vocab.keys() and len(vocab) <= MAX_WORDS
    # every number once, and none above the last: others would point past the table of embeddings
    if not whole or set(map(repr, vocab.values())) != set(map(repr, range(len(vocab)))):
        raise no_vocabulary(folder, "something else")
    if not all(isinstance(pair, list) and list(map(type, pair)) == [str, str] for pair in merges):
        raise no_vocabulary(folder, "merges of another form")
    return vocab, [(a, b) for a, b in merges]


def no_vocabulary(folder: Path, found: str) -> UserError:
    """The error of files that are something else."""
    return UserError(f"folder '{folder}'", "a CLIP byte-pair vocabulary and its merges", found)


@functools.cache
def token_counter(folder: Path) -> Callable[[str], int] | None:
    """Gives how many tokens a text has, without start and end token; None where the vocabulary is not the folder's own.

    The steps are those of transformers' `CLIPTokenizer`, whose import takes torch.

    Raises:
        UserError: as `own_vocabulary`.
    """
    vocabulary = own_vocabulary(folder)
    if vocabulary is None:
        return None
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    model = models.BPE(*vocabulary, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return lambda text: len(tokenizer.encode(text).ids)
