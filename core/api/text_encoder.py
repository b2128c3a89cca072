"""From a prompt to text states: tokens, where a phrase lies among them, and the text transformer."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import UserError
from ..scene.scene import Subject, locate
from .ports import TokenEmbeddings
from .replaced import replaced
from .tokens import Token, in_sequences, read
from .words import Words

log = logging.getLogger(__name__)

Edit = Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]]
"""A change of token embeddings, before the position embedding is added."""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the text transformer reads it, padded to its length, or to several of its lengths.

    Args:
        text: the prompt.
        ids: token ids, with start, end and padding tokens. Where a new word stands they are those of its plain text.
        offsets: the character range of every token; (0, 0) for special tokens.
        truncated_at: the character from which the prompt is cut off; None when all of it fits.
        words: that conditioners bring, whether or not this prompt holds them; for reading another text alike.
        embeddings: of the new words that the prompt holds, at their positions.
        sequences: how many times the text transformer's length there is; each is read on its own.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    truncated_at: int | None = None
    words: Words = field(default_factory=dict, compare=False, repr=False)
    embeddings: tuple[TokenEmbeddings, ...] = field(default=(), compare=False, repr=False)
    sequences: int = 1

    def positions(self, subject: Subject) -> tuple[int, ...] | None:
        """Token positions of a subject's phrase; None when this prompt does not hold the phrase.

        Raises:
            UserError: the phrase lies past the last token that the text transformer reads, or only partly before it.
        """
        return self.find(subject.phrase, subject.occurrence)

    def find(self, phrase: str, occurrence: int | None = None) -> tuple[int, ...] | None:
        """As `positions`, for any phrase."""
        try:
            start, end = locate(self.text, phrase, occurrence)
        except UserError:
            return None
        if self.truncated_at is not None and end > self.truncated_at:
            raise UserError(
                f"subject '{phrase}', field 'phrase'",
                f"a phrase within the {len(self.ids)} tokens that the text encoder reads",
                f"one that the tokenizer cuts off after '...{self.text[: self.truncated_at][-30:]}'",
                "Shorten the prompt, or move the phrase forward.",
            )
        return self.within(start, end)

    def within(self, start: int, end: int) -> tuple[int, ...]:
        """Positions of the tokens that hold a character of ``text[start:end]``."""
        return tuple(i for i, (a, b) in enumerate(self.offsets) if b > a and a < end and b > start)

    def without_words(self) -> PromptTokens:
        """The same tokens without any tensor, for keeping."""
        return PromptTokens(self.text, self.ids, self.offsets, self.truncated_at, sequences=self.sequences)


class TextEncoder:
    """A CLIP tokenizer and text transformer. Neither is changed by any call, so that threads may share one.

    Args:
        tokenizer: a fast tokenizer (it must give offsets).
        model: a transformers `CLIPTextModel`; its parameters are not written.
    """

    def __init__(self, tokenizer: Any, model: nn.Module) -> None:
        self.tokenizer, self.model = tokenizer, model

    def with_model(self, model: nn.Module) -> TextEncoder:
        """The same encoder with another text transformer, for example one that `weft.plugin.apply_deltas` gave."""
        other = copy.copy(self)
        other.model = model
        return other

    @property
    def width(self) -> int:
        """Channels of the text states."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def length(self) -> int:
        """Tokens that the text transformer reads at once, start and end token among them."""
        return int(self.tokenizer.model_max_length)

    def tokens(self, prompt: str, words: Words | None = None, sequences: int = 1) -> PromptTokens:
        """Tokenize one prompt; what does not fit is cut off, with a warning.

        Args:
            prompt: the text.
            words: that the tokenizer does not know; `PromptTokens.words` of a branch's prompt for another text alike.
            sequences: at most so many times the text transformer's length, each with start and end token.
        """
        words = words or {}
        room = self.length - 2
        rows = in_sequences(read(self.tokenizer, prompt, words), room, sequences, self.tokenizer)
        kept, dropped = rows[:sequences], rows[sequences:]
        start, end, pad = (int(getattr(self.tokenizer, f"{name}_token_id")) for name in ("bos", "eos", "pad"))
        padded: list[Token] = []
        for row in kept:
            padded += [Token(start), *row, Token(end), *[Token(pad)] * (room - len(row))]
        offsets = tuple((token.start, token.end) for token in padded)
        cut = None
        if dropped:
            cut = min(dropped[0][0].start, max(b for _, b in offsets))
            cut = len(prompt[:cut].rstrip())
            # a negative prompt, and what a strategy or a conditioner asks for, are prompts too
            begin, rest = prompt[:40].strip(), prompt[cut:].strip()
            log.warning("'%s...' is longer than %d tokens; '%s' is cut off", begin, len(padded), rest)
        ids = tuple(token.id for token in padded)
        return PromptTokens(prompt, ids, offsets, cut, words, _embeddings(padded, words), len(kept))

    def encode(
        self, tokens: PromptTokens, embeddings: Sequence[TokenEmbeddings] = ()
    ) -> Float[Tensor, "t d"]:
        """Text states of one prompt, with token embeddings replaced before the position embedding is added.

        Gradients reach the vectors of words and of ``embeddings``, and deltas in the model.
        """

        def write(table: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
            return reduce(lambda written, entry: entry.write(written), embeddings, table)

        return self.states(tokens, write if embeddings else None)[0]

    def states(
        self, ids: Int[Tensor, "b t"] | PromptTokens, edit: Edit | None = None
    ) -> Float[Tensor, "b t d"]:
        """Text states of token ids, or of one prompt with its new words.

        Args:
            ids: at most `length` a row, or several times as many, which are read in sequences of that length.
            edit: changes the token embeddings first. Gradients reach what it writes.
        """
        edits = [] if edit is None else [edit]
        if isinstance(ids, PromptTokens):
            edits = [entry.write for entry in ids.embeddings] + edits
            ids = torch.tensor([ids.ids], device=self.device)
        rows = len(ids)
        long = ids.shape[1] > self.length
        folded = rearrange(ids, "b (k t) -> (b k) t", t=self.length) if long else ids
        model = self.model
        if edits:
            table = reduce(lambda written, one: one(written), edits, self._embed(ids))
            table = rearrange(table, "b (k t) d -> (b k) t d", t=folded.shape[1])
            model = replaced(model, {self._path: _Embedded(table)})
        states: Tensor = model(folded)[0]
        return rearrange(states, "(b k) t d -> b (k t) d", b=rows) if long else states

    def _embed(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        embedded: Tensor = self.model.get_submodule(self._path)(ids)
        return embedded

    @property
    def _path(self) -> str:
        table = self.model.get_input_embeddings()  # type: ignore[operator]
        modules: Iterator[tuple[str, nn.Module]] = self.model.named_modules()
        return next(path for path, module in modules if module is table)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device


class _Embedded(nn.Module):
    """Token embeddings that are there already, whatever the ids."""

    def __init__(self, table: Float[Tensor, "b t d"]) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        return self.table


def _embeddings(tokens: Sequence[Token], words: Words) -> tuple[TokenEmbeddings, ...]:
    """The vectors of the new words among tokens, one entry a word."""
    places: Mapping[str, list[tuple[int, int]]] = {word: [] for word in words}
    for position, token in enumerate(tokens):
        if token.word is not None:
            places[token.word].append((position, token.number))
    return tuple(
        TokenEmbeddings(
            torch.tensor([position for position, _ in pairs]),
            words[word].vectors[[number for _, number in pairs]],
            strength=words[word].strength,
        )
        for word, pairs in places.items()
        if pairs
    )
