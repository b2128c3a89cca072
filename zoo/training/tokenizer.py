"""The small CLIP tokenizer: CLIP's own byte-pair merges, but only those that the world's words and common words use.

A word's merges in CLIP's order are kept together, so every listed word is split exactly as CLIP splits it
(byte-pair encoding always applies the best-ranked merge, and that merge is never left out).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, get_pairs
from transformers import CLIPTokenizer

from ..world import sample

CONTEXT = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def used_merges(words: Iterable[str], source: SimpleTokenizer) -> list[tuple[str, str]]:
    """The merges that ``source`` applies to ``words``, in its order of rank."""
    used: set[tuple[str, str]] = set()
    for word in set(words):
        for piece in source.pat.findall(word.lower()):
            symbols = [source.byte_encoder[b] for b in piece.encode()]
            symbols[-1] += "</w>"
            while len(symbols) > 1:
                best = min(
                    get_pairs(tuple(symbols)), key=lambda pair: source.bpe_ranks.get(pair, float("inf"))
                )
                if best not in source.bpe_ranks:
                    break
                used.add(best)
                symbols = _merged(symbols, best)
    return sorted(used, key=lambda pair: source.bpe_ranks[pair])


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    i = 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def build(words: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Write the tokenizer for ``words`` to ``folder`` in diffusers' layout (vocab.json, merges.txt and configs)."""
    source = SimpleTokenizer()
    merges = used_merges(words, source)
    base = list(bytes_to_unicode().values())
    names = [*base, *(c + "</w>" for c in base), *(a + b for a, b in merges), START, END]
    vocab = {name: i for i, name in enumerate(names)}
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        model_max_length=CONTEXT,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(folder))
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tokenizer


def common_words() -> list[str]:
    """A few hundred words of everyday captions, so that prompts outside the world's vocabulary split well too."""
    return (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split()


def load(folder: Path) -> CLIPTokenizer:
    """The tokenizer that `build` wrote to ``folder``."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder))
    return tokenizer


def words(pictures: int) -> list[str]:
    """The common words and those of the world's captions, read off ``pictures`` pictures of each split."""
    found = set(common_words())
    for split in ("train", "held_out"):
        for seed in range(pictures):
            picture = sample(seed, split=split)
            found.update(word for k in range(4) for word in picture.caption(k).split())
    return sorted(found)
