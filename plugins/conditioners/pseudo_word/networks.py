"""The trained part of `pseudo_word`: the network that makes the words, and low-rank deltas of the UNet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from weft.plugin import LowRank, PromptTokens, TextEncoder, fill_module

from ...shared.subject_words import WordNetwork, WordNetworks, unify, write_words


class PseudoWordNetworks(WordNetworks):
    """What UMM-Diffusion trains (arXiv 2303.09319): the network first, and in a second phase the UNet with it.

    The second phase is held as low-rank deltas, so that only branches with the conditioner see it. Tensors are named
    ``keep``, ``word.<layer>.<name>`` and ``unet.<path of a layer>.lora_A`` / ``.lora_B``.

    A word is ``keep`` times the noun's own embedding and what the network makes of the images. The paper does not say
    whether the noun stays; with ``keep`` learned, from 1 on, an untrained word is nearly its noun, and the network has
    the looks alone to learn.

    Args:
        word: makes the words.
        unet: the deltas; of no layer for the first phase.
    """

    def __init__(self, word: WordNetwork, unet: LowRank) -> None:
        super().__init__(word, unet)
        self.keep = nn.Parameter(torch.ones(()))

    @classmethod
    def create(
        cls,
        unet: nn.Module,
        image_width: int,
        text_width: int,
        rank: int = 0,
        paths: str = "",
        hidden: int | None = None,
    ) -> PseudoWordNetworks:
        """New ones, in float32 on the CPU; the deltas change nothing yet.

        Args:
            unet: whose layers the deltas are for; it is only read.
            image_width: channels of the image tower's pooled features.
            text_width: channels of the token embeddings.
            rank: of the deltas; 0 is without them.
            paths: a regular expression that is found in the paths of the layers to change; all by default.
            hidden: width of the network; ``text_width`` by default.
        """
        return cls(
            WordNetwork(image_width, hidden or text_width, text_width),
            LowRank.matching(unet, paths, rank),
        )

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        unet: nn.Module,
        image_width: int,
        text_width: int,
        place: str = "weights of 'pseudo_word'",
        dtype: torch.dtype = torch.float32,
    ) -> PseudoWordNetworks:
        """Those of a file; hidden width, layers and ranks follow from the tensors.

        Raises:
            UserError: a tensor is missing, left over or of another shape; it names the tensor and both shapes.
        """
        with torch.device("meta"):
            networks = cls(
                WordNetwork.like(tensors, "word.", image_width, text_width),
                LowRank.like(unet, tensors, "unet."),
            )
        fill_module(networks, tensors, place, dtype)
        return networks.eval().requires_grad_(False)

    def rearranged(
        self,
        encoder: TextEncoder,
        ids: Int[Tensor, "b t"] | PromptTokens,
        words: Float[Tensor, "b s d"],
        places: Bool[Tensor, "b s t"],
    ) -> Float[Tensor, "b t d"]:
        """h_r: states of prompts that hold the words.

        Args:
            encoder: the frozen text transformer.
            ids: token ids of the prompts, or one prompt.
            words: one a subject.
            places: the tokens of every subject's noun; none for a subject that takes no part.
        """
        return encoder.states(ids, lambda table: write_words(table, words, places, self.keep))

    def states(
        self,
        encoder: TextEncoder,
        ids: Int[Tensor, "b t"],
        words: Float[Tensor, "b s d"],
        places: Bool[Tensor, "b s t"],
        plain: Float[Tensor, "b t d"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """h_u: the plain states, ``plain`` where they are at hand, with h_r at the subjects' places only."""
        if plain is None:
            plain = encoder.states(ids)
        return unify(plain, self.rearranged(encoder, ids, words, places), places)
