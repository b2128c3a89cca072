"""CLIP tokenizers, built from a folder's vocabulary or the one that open_clip carries. No class path is followed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from ..errors import UserError
from ..storage.strict_json import read_config
from .added_tokens import added_tokens

LENGTH = 77
MAX_WORDS = 1_000_000
MAX_MERGES_BYTES = 16_000_000
START, END = "<|startoftext|>", "<|endoftext|>"


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a diffusers layout: ``vocab.json`` with ``merges.txt``, or ``tokenizer.json``.

    A folder without either takes CLIP's own vocabulary, which is that of every Stable Diffusion 1.x. Tokens that the
    folder adds are kept (`added_tokens`).

    Raises:
        UserError: the files are there but are not a byte-pair vocabulary.
    """
    vocab, merges = _vocabulary(folder)
    options = (
        read_config(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    )
    place = f"file '{folder.name}/tokenizer_config.json'"
    pad = options.get("pad_token", END)
    pad = pad.get("content", END) if isinstance(pad, dict) else pad
    if not isinstance(pad, str) or pad not in vocab:
        raise UserError(f"{place}, field 'pad_token'", "a token of the vocabulary", repr(pad)[:60])
    length = options.get("model_max_length", LENGTH)
    if not isinstance(length, int) or not 2 <= length <= 1024:
        raise UserError(
            f"{place}, field 'model_max_length'", "a whole number from 2 to 1024", repr(length)[:60]
        )
    added = added_tokens(folder, vocab)
    try:
        tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length, pad_token=pad)
        tokenizer.add_tokens(
            [token for token in added if token.content not in tokenizer.added_tokens_encoder]
        )
        return tokenizer
    except Exception as error:  # a pair of pieces that the vocabulary lacks, for example
        raise _no_vocabulary(folder, str(error)) from None


def _vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    if (folder / "vocab.json").is_file():
        vocab = read_config(folder / "vocab.json", limit=8_000_000)
        lines = _lines(folder / "merges.txt")
        return _checked(
            folder, vocab, [line.split() for line in lines if line and not line.startswith("#version")]
        )
    if (folder / "tokenizer.json").is_file():
        model = read_config(folder / "tokenizer.json", limit=16_000_000).get("model")
        if not isinstance(model, dict) or not isinstance(model.get("merges"), list):
            raise _no_vocabulary(folder, "something else")
        merges = [pair.split() if isinstance(pair, str) else pair for pair in model["merges"]]
        return _checked(folder, model.get("vocab"), merges)
    return _clip_vocabulary()


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_MERGES_BYTES:
            raise UserError(f"file '{path}'", f"at most {MAX_MERGES_BYTES} bytes", "more")
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"file '{path}'", "a list of merges in UTF-8", str(error)) from None


def _checked(folder: Path, vocab: Any, merges: list[Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    whole = isinstance(vocab, dict) and {START, END} <= vocab.keys() and len(vocab) <= MAX_WORDS
    # every number once, and none above the last: others would point past the table of embeddings
    if not whole or set(map(repr, vocab.values())) != set(map(repr, range(len(vocab)))):
        raise _no_vocabulary(folder, "something else")
    if not all(isinstance(pair, list) and list(map(type, pair)) == [str, str] for pair in merges):
        raise _no_vocabulary(folder, "merges of another form")
    return vocab, [(a, b) for a, b in merges]


def _no_vocabulary(folder: Path, found: str) -> UserError:
    return UserError(f"folder '{folder}'", "a CLIP byte-pair vocabulary and its merges", found)


@functools.cache
def _clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    from open_clip.tokenizer import SimpleTokenizer

    clip = SimpleTokenizer()
    ranked = sorted(clip.bpe_ranks, key=clip.bpe_ranks.__getitem__)
    # open_clip spells the two special tokens, which come last, in its own way
    pieces = [piece for piece, number in clip.encoder.items() if number < len(clip.encoder) - 2]
    vocab = {piece: number for number, piece in enumerate([*pieces, START, END])}
    return vocab, [(a, b) for a, b in ranked]
