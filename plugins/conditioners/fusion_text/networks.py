"""The trained part of `fusion_text`: the network that makes the words, and deltas of the text encoder and the UNet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from weft.plugin import LowRank, PromptTokens, TextEncoder, WeightDelta, apply_deltas, fill_module

from ...shared.subject_words import WordNetwork, WordNetworks, write_words

TEXT_PROJECTIONS = r"attn2\.to_[kv]$"
"""The UNet's layers that Subject-Diffusion trains beside its adapter: the keys and values of the text."""


class FusionTextNetworks(WordNetworks):
    """What Subject-Diffusion trains on its text path: network, text encoder, keys and values (arXiv 2307.11410).

    The retrained layers are held as low-rank deltas, so that only branches with the conditioner see them. Tensors are
    named ``word.<layer>.<name>``, and ``lora_A`` and ``lora_B`` below ``text.<path of a layer>`` and ``unet.<path>``.

    Args:
        word: makes the words.
        text: the text encoder's deltas.
        unet: the UNet's deltas.
    """

    def __init__(self, word: WordNetwork, text: LowRank, unet: LowRank) -> None:
        super().__init__(word, unet)
        self.text = text

    @classmethod
    def create(
        cls,
        text_model: nn.Module,
        unet: nn.Module,
        image_width: int,
        text_width: int,
        rank: int = 0,
        text_rank: int | None = None,
        paths: str = TEXT_PROJECTIONS,
        text_paths: str = "",
        hidden: int | None = None,
    ) -> FusionTextNetworks:
        """New ones, in float32 on the CPU; the deltas change nothing yet.

        Args:
            text_model: the text transformer, whose layers are only read.
            unet: likewise.
            image_width: channels of the image tower's pooled features.
            text_width: channels of the token embeddings.
            rank: of the UNet's deltas; 0 is without them.
            text_rank: of the text encoder's; ``rank`` by default.
            paths: a regular expression that is found in the paths of the UNet's layers to change.
            text_paths: likewise for the text encoder; all by default.
            hidden: width of the network; ``text_width`` by default.
        """
        text_rank = rank if text_rank is None else text_rank
        return cls(
            WordNetwork(image_width, hidden or text_width, text_width),
            LowRank.matching(text_model, text_paths, text_rank, "text_encoder"),
            LowRank.matching(unet, paths, rank),
        )

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        text_model: nn.Module,
        unet: nn.Module,
        image_width: int,
        text_width: int,
        place: str = "weights of 'fusion_text'",
        dtype: torch.dtype = torch.float32,
    ) -> FusionTextNetworks:
        """Those of a file; hidden width, layers and ranks follow from the tensors.

        Raises:
            UserError: a tensor is missing, left over or of another shape; it names the tensor and both shapes.
        """
        with torch.device("meta"):
            networks = cls(
                WordNetwork.like(tensors, "word.", image_width, text_width),
                LowRank.like(text_model, tensors, "text.", "text_encoder"),
                LowRank.like(unet, tensors, "unet."),
            )
        fill_module(networks, tensors, place, dtype)
        return networks.eval().requires_grad_(False)

    def states(
        self,
        encoder: TextEncoder,
        ids: Int[Tensor, "b t"] | PromptTokens,
        words: Float[Tensor, "b s d"],
        places: Bool[Tensor, "b s t"],
    ) -> Float[Tensor, "b t d"]:
        """States of extended prompts, by the retrained text transformer, with the words in the placeholders' places.

        Args:
            encoder: the frozen text transformer, to which the deltas are added.
            ids: token ids of the extended prompts (`plugins.fusion_text.prompt`), or one such prompt.
            words: one a subject.
            places: the tokens of every subject's placeholder; none for a subject that takes no part.
        """
        retrained = encoder.with_model(apply_deltas(encoder.model, self.text_deltas()))
        return retrained.states(ids, lambda table: write_words(table, words, places))

    def text_deltas(self) -> tuple[WeightDelta, ...]:
        """The text encoder's deltas; gradients reach the parameters."""
        return self.text.deltas()
