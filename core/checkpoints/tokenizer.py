"""CLIP tokenizers, built from a folder's vocabulary or the one that open_clip carries. No class path is followed."""

from __future__ import annotations

import functools
from pathlib import Path

from transformers import CLIPTokenizer

from ..errors import UserError
from ..storage.strict_json import read_config
from .added_tokens import added_tokens
from .vocabulary import END, LENGTH, START, no_vocabulary, own_vocabulary


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a diffusers layout: ``vocab.json`` with ``merges.txt``, or ``tokenizer.json``.

    A folder without either takes CLIP's own vocabulary, which is that of every Stable Diffusion 1.x. Tokens that the
    folder adds are kept (`added_tokens`).

    Raises:
        UserError: the files are there but are not a byte-pair vocabulary.
    """
    vocab, merges = own_vocabulary(folder) or _clip_vocabulary()
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
        raise no_vocabulary(folder, str(error)) from None


@functools.cache
def _clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    from open_clip.tokenizer import SimpleTokenizer

    clip = SimpleTokenizer()
    ranked = sorted(clip.bpe_ranks, key=clip.bpe_ranks.__getitem__)
    # open_clip spells the two special tokens, which come last, in its own way
    pieces = [piece for piece, number in clip.encoder.items() if number < len(clip.encoder) - 2]
    vocab = {piece: number for number, piece in enumerate([*pieces, START, END])}
    return vocab, [(a, b) for a, b in ranked]
