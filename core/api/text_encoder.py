"""From a prompt to text states: tokens, where a phrase lies among them, and the text transformer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import UserError
from ..scene.scene import Subject, locate
from .ports import TokenEmbeddings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the text transformer reads it, padded to its length.

    Args:
        text: the prompt.
        ids: token ids, with start, end and padding tokens.
        offsets: the character range of every token; (0, 0) for special tokens.
        truncated_at: the character from which the tokenizer cuts the prompt off; None when all of it fits.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    truncated_at: int | None = None

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


class TextEncoder:
    """A CLIP tokenizer and text transformer.

    Args:
        tokenizer: a fast tokenizer (it must give offsets).
        model: a transformers `CLIPTextModel`; its parameters are not written.
    """

    def __init__(self, tokenizer: Any, model: nn.Module) -> None:
        self.tokenizer, self.model = tokenizer, model

    @property
    def width(self) -> int:
        """Channels of the text states."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def tokens(self, prompt: str) -> PromptTokens:
        """Tokenize one prompt; what does not fit is cut off, with a warning."""
        length = int(self.tokenizer.model_max_length)
        options = {"return_offsets_mapping": True}
        whole = self.tokenizer(prompt, **options)
        padded = self.tokenizer(prompt, padding="max_length", max_length=length, truncation=True, **options)
        offsets = tuple((int(a), int(b)) for a, b in padded["offset_mapping"])
        cut = None
        if len(whole["input_ids"]) > length:
            cut = max(b for _, b in offsets)
            log.warning("the prompt is longer than %d tokens; '%s' is cut off", length, prompt[cut:].strip())
        return PromptTokens(prompt, tuple(padded["input_ids"]), offsets, cut)

    def encode(
        self, tokens: PromptTokens, embeddings: Sequence[TokenEmbeddings] = ()
    ) -> Float[Tensor, "t d"]:
        """Text states of one prompt, with token embeddings replaced before the position embedding is added."""

        def write(table: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
            for entry in embeddings:
                table = entry.write(table)
            return table

        with torch.no_grad():
            ids = torch.tensor([tokens.ids], device=self.device)
            return self.states(ids, write if embeddings else None)[0]

    def states(
        self,
        ids: Int[Tensor, "b t"],
        edit: Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Text states of token ids; ``edit`` changes the token embeddings first. Gradients reach what it writes."""
        table: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        handle = None if edit is None else table.register_forward_hook(lambda *call: edit(call[-1]))
        try:
            states: Tensor = self.model(ids)[0]
        finally:
            if handle is not None:
                handle.remove()
        return states

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device
