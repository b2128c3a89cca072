"""What `pseudo_word` contributes to the branches of one scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ...core.conditioner import Prepared
from ...core.host import Host
from ...core.ports import Contribution, TextStates
from ...core.scene import Scene, Subject
from ...core.text import PromptTokens, TextEncoder
from ...core.weights import trained
from ..subject_words import noun_positions, places_of, read_references
from .networks import PseudoWordNetworks

if TYPE_CHECKING:
    from . import PseudoWord


@torch.no_grad()
def read(plugin: PseudoWord, scene: Scene, host: Host) -> Prepared:
    """Make the words of a scene's subjects; see `PseudoWord`."""
    tower = host.image_tower(plugin.image_encoder, plugin.architecture)
    networks = trained(
        plugin.name,
        host,
        plugin.weights,
        lambda tensors, place: PseudoWordNetworks.from_tensors(
            tensors, host.unet, tower.width, host.text.width, place, host.dtype
        ),
        tower.width,
    )
    references = read_references(scene, tower, plugin.name)
    words = networks.words(references.pooled[None], references.known[None])
    return _PseudoWords(host.text, references.subjects, words, networks)


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
        ids = torch.tensor([text.ids], device=device)
        rearranged = self._networks.rearranged(self._encoder, ids, self._words, places[None])
        positions = places.any(dim=0).nonzero()[:, 0]
        return (TextStates(positions, rearranged[0, positions]), *self._networks.deltas())

    def absent(self, text: PromptTokens) -> Contribution:
        return ()  # the plain noun, read by the UNet as it is
