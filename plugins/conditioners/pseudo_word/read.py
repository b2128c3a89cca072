"""What `pseudo_word` contributes to the branches of one scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from weft.plugin import (
    Contribution,
    ModelView,
    Prepared,
    PromptTokens,
    Scene,
    Subject,
    TextEncoder,
    TextStates,
    trained_networks,
)

from ...shared.subject_words import noun_positions, places_of, read_references
from .networks import PseudoWordNetworks

if TYPE_CHECKING:
    from . import PseudoWord


@torch.no_grad()
def read(plugin: PseudoWord, scene: Scene, model: ModelView) -> Prepared:
    """Make the words of a scene's subjects; see `PseudoWord`."""
    tower = model.image_tower(plugin.image_encoder, plugin.architecture)
    networks = trained_networks(
        plugin.name,
        model,
        plugin.weights,
        lambda tensors, place: PseudoWordNetworks.from_tensors(
            tensors, model.unet, tower.width, model.text.width, place, model.dtype
        ),
        tower.width,
    )
    references = read_references(scene, tower, plugin.name)
    words = networks.words(references.pooled[None], references.known[None])
    return _PseudoWords(model.text, references.subjects, words, networks)


class _PseudoWords(Prepared):
    def __init__(
        self,
        encoder: TextEncoder,
        subjects: tuple[Subject, ...],
        words: Float[Tensor, "1 s d"],
        networks: PseudoWordNetworks,
    ) -> None:
        self._encoder, self._subjects, self._words, self._networks = encoder, subjects, words, networks

    @torch.no_grad()
    def present(self, text: PromptTokens) -> Contribution:
        nouns = noun_positions(text, self._subjects)
        if not nouns:
            return ()  # another prompt, which does not speak of them
        device = self._encoder.device
        places = places_of(nouns, len(self._subjects), len(text.ids)).to(device)
        rearranged = self._networks.rearranged(self._encoder, text, self._words, places[None])
        positions = places.any(dim=0).nonzero()[:, 0]
        return (TextStates(positions, rearranged[0, positions]), *self._networks.deltas())

    def absent(self, text: PromptTokens) -> Contribution:
        return ()  # the plain noun, read by the UNet as it is
