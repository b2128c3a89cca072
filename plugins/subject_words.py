"""Pseudo words: what `pseudo_word` and `fusion_text` share, from reference pictures to vectors in a prompt's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

EMBEDDING_STD = 0.02
"""CLIP's token embeddings start at this standard deviation (open_clip, `CLIP.init_parameters`)."""

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


class WordNetwork(nn.Module):
    """From the pooled feature of a picture to a vector among the token embeddings.

    LayerNorm, Linear, GELU, Linear, without a residual: the released code of Subject-Diffusion (arXiv 2307.11410).
    UMM-Diffusion (arXiv 2303.09319) says "MLP" only.

    Args:
        image_width: channels of the pooled feature.
        hidden: between the two linear layers.
        text_width: channels of a token embedding.
    """

    def __init__(self, image_width: int, hidden: int, text_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(image_width)
        self.hidden = nn.Linear(image_width, hidden)
        self.output = nn.Linear(hidden, text_width)
        # an untrained word is a small one: the text transformer has never read one of norm 10
        nn.init.normal_(self.output.weight, std=EMBEDDING_STD / hidden**0.5)
        nn.init.zeros_(self.output.bias)

    @classmethod
    def like(
        cls, tensors: Mapping[str, Tensor], prefix: str, image_width: int, text_width: int
    ) -> WordNetwork:
        """A network whose hidden width is that of the tensors; their values are not read."""
        weight = tensors.get(f"{prefix}hidden.weight")
        return cls(image_width, text_width if weight is None or not weight.ndim else len(weight), text_width)

    def forward(
        self, pooled: Float[Tensor, "b s k e"], known: Bool[Tensor, "b s k"]
    ) -> Float[Tensor, "b s d"]:
        """One word a subject: the mean over those of its k pictures that are known; zeros where none is.

        Args:
            pooled: features; what stands where a picture is not known is not read.
            known: which pictures there are.
        """
        pooled = pooled.masked_fill(~known[..., None], 0.0).to(self.norm.weight)
        words: Tensor = self.output(F.gelu(self.hidden(self.norm(pooled))))  # b s k d
        weight = known.to(words)
        weight = weight / weight.sum(dim=-1, keepdim=True).clamp_min(1.0)
        return torch.einsum("bskd,bsk->bsd", words, weight)


def write_words(
    table: Float[Tensor, "b t d"], words: Float[Tensor, "b s d"], places: Bool[Tensor, "b s t"]
) -> Float[Tensor, "b t d"]:
    """Token embeddings with every subject's word at each of its places. No two subjects may share a place."""
    written = torch.einsum("bsd,bst->btd", words.to(table), places.to(table))
    return torch.where(places.any(dim=1)[..., None], written, table)


def unify(
    plain: Float[Tensor, "b t d"], rearranged: Float[Tensor, "b t d"], places: Bool[Tensor, "b s t"]
) -> Float[Tensor, "b t d"]:
    """h_u: the plain prompt's states, with the rearranged ones at the subjects' places only."""
    return torch.where(places.any(dim=1)[..., None], rearranged.to(plain), plain)
