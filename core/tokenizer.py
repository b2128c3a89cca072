"""CLIP tokenizers, built from a folder's vocabulary or the one that open_clip carries. No class path is followed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from .errors import UserError
from .safe import read_config

LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a diffusers layout: ``vocab.json`` with ``merges.txt``, or ``tokenizer.json``.

    A folder without either takes CLIP's own vocabulary, which is that of every Stable Diffusion 1.x.

    Raises:
        UserError: the files are there but are not a byte-pair vocabulary.
    """
    vocab, merges = _vocabulary(folder)
    options = (
        read_config(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    )
    pad = options.get("pad_token", END)
    pad = pad.get("content", END) if isinstance(pad, dict) else pad
    length = options.get("model_max_length", LENGTH)
    if not isinstance(length, int) or not 2 <= length <= 1024:
        place = f"file '{folder.name}/tokenizer_config.json', field 'model_max_length'"
        raise UserError(place, "a whole number from 2 to 1024", repr(length))
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length, pad_token=str(pad))


def _vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    if (folder / "vocab.json").is_file():
        vocab = read_config(folder / "vocab.json", limit=8_000_000)
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        return _checked(
            folder, vocab, [line.split() for line in lines if line and not line.startswith("#version")]
        )
    if (folder / "tokenizer.json").is_file():
        model: Any = read_config(folder / "tokenizer.json", limit=16_000_000).get("model", {})
        merges = [pair.split() if isinstance(pair, str) else pair for pair in model.get("merges", [])]
        return _checked(folder, model.get("vocab", {}), merges)
    return _clip_vocabulary()


def _checked(folder: Path, vocab: Any, merges: list[Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    whole = (
        isinstance(vocab, dict) and END in vocab and all(isinstance(number, int) for number in vocab.values())
    )
    if not whole or not all(len(pair) == 2 for pair in merges):
        raise UserError(f"folder '{folder}'", "a CLIP byte-pair vocabulary and its merges", "something else")
    return vocab, [(str(a), str(b)) for a, b in merges]


@functools.cache
def _clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    from open_clip.tokenizer import SimpleTokenizer

    clip = SimpleTokenizer()
    ranked = sorted(clip.bpe_ranks, key=clip.bpe_ranks.__getitem__)
    # open_clip spells the two special tokens, which come last, in its own way
    pieces = [piece for piece, number in clip.encoder.items() if number < len(clip.encoder) - 2]
    vocab = {piece: number for number, piece in enumerate([*pieces, START, END])}
    return vocab, [(a, b) for a, b in ranked]
