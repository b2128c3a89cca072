"""What `fusion_text` contributes to the branches of one scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from weft.plugin import (
    Contribution,
    ModelView,
    Prepared,
    PromptTokens,
    Scene,
    Subject,
    TextEncoder,
    TextStates,
    UserError,
    trained_networks,
)

from ...shared.subject_images import noun_span
from ...shared.subject_words import places_of, read_references
from .networks import FusionTextNetworks
from .prompt import extend

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from . import FusionText


@torch.no_grad()
def read(plugin: FusionText, scene: Scene, model: ModelView) -> Prepared:
    """Make the words of a scene's subjects; see `FusionText`."""
    tower = model.image_tower(plugin.image_encoder, plugin.architecture)
    networks = trained_networks(
        plugin.name,
        model,
        plugin.weights,
        lambda tensors, place: FusionTextNetworks.from_tensors(
            tensors, model.text.model, model.unet, tower.width, model.text.width, place, model.dtype
        ),
        tower.width,
    )
    references = read_references(scene, tower, plugin.name)
    words = networks.words(references.pooled[None], references.known[None])
    return _FusedTexts(model.text, references.subjects, words, networks, plugin.placeholder)


def extended_tokens(
    encoder: TextEncoder, text: PromptTokens, subjects: dict[int, Subject], placeholder: str
) -> tuple[PromptTokens, dict[int, tuple[int, ...]]]:
    """The tokens of the extended prompt, and every subject's placeholder among them, by the subjects' numbers.

    Raises:
        UserError: it does not fit the text encoder; the error names the first subject whose clause is cut off.
    """
    prompt = text.text
    nouns = [slice(*noun_span(prompt, subject)) for subject in subjects.values()]
    extended = extend(prompt, [prompt[noun] for noun in nouns], placeholder)
    tokens = encoder.tokens(extended.text, text.words, text.sequences)
    for subject, (_, end) in zip(subjects.values(), extended.placeholders, strict=True):
        if tokens.truncated_at is not None and end > tokens.truncated_at:
            raise UserError(
                f"subject '{subject.phrase}', field 'images'",
                f"a prompt that leaves room for the subject's clause within {len(tokens.ids)} tokens",
                f"one that the tokenizer cuts off after '...{extended.text[: tokens.truncated_at][-30:]}'",
                "Shorten the prompt, or show fewer subjects by images.",
            )
    ranges = zip(subjects, extended.placeholders, strict=True)
    return tokens, {number: tokens.within(*characters) for number, characters in ranges}


class _FusedTexts(Prepared):
    def __init__(
        self,
        encoder: TextEncoder,
        subjects: tuple[Subject, ...],
        words: Float[Tensor, "1 s d"],
        networks: FusionTextNetworks,
        placeholder: str,
    ) -> None:
        self._encoder, self._subjects, self._words = encoder, subjects, words
        self._networks, self._placeholder = networks, placeholder

    @torch.no_grad()
    def present(self, text: PromptTokens) -> Contribution:
        held = {
            number: subject
            for number, subject in enumerate(self._subjects)
            if text.positions(subject) is not None
        }
        if not held:
            return ()  # another prompt, which does not speak of them
        device = self._encoder.device
        tokens, placeholders = extended_tokens(self._encoder, text, held, self._placeholder)
        places = places_of(placeholders, len(self._subjects), len(tokens.ids)).to(device)
        states = self._networks.states(self._encoder, tokens, self._words, places[None])[0]
        everywhere = torch.arange(len(states), device=device)
        return (TextStates(everywhere, states), *self._networks.deltas())

    def absent(self, text: PromptTokens) -> Contribution:
        return ()  # the plain prompt, read by the text encoder and the UNet as they are
