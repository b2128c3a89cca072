"""Gated self-attention over the picture's positions and the grounding tokens (GLIGEN, section 4.2, equation 8)."""

from __future__ import annotations

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from ...core.attention import self_attention


class GatedSelfAttention(nn.Module):
    """A block module whose two residuals start at zero.

    Args:
        width: channels of the block's hidden states.
        heads: of the attention, as in the block itself.
        tokens: channels of the grounding tokens.
    """

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.linear = nn.Linear(tokens, width)
        self.attn = Attention(query_dim=width, heads=heads, dim_head=width // heads)
        self.ff = FeedForward(width, activation_fn="geglu")
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.alpha_attn = nn.Parameter(torch.tensor(0.0))
        self.alpha_dense = nn.Parameter(torch.tensor(0.0))

    def forward(
        self, hidden: Float[Tensor, "r n c"], state: Float[Tensor, "r m d"], strength: Float[Tensor, " r"]
    ) -> Float[Tensor, "r n c"]:
        """Hidden states with both residuals added.

        Args:
            hidden: of the block, after its self-attention.
            state: grounding tokens.
            strength: beta of equation 8; it scales both residuals, so 0 gives ``hidden`` back.
        """
        positions = hidden.shape[1]
        strength = strength[:, None, None]
        together = self.norm1(torch.cat([hidden, self.linear(state)], dim=1))
        attended = self_attention(self.attn, together)[:, :positions]
        hidden = hidden + strength * self.alpha_attn.tanh() * attended
        dense: Tensor = self.ff(self.norm2(hidden))
        return hidden + strength * self.alpha_dense.tanh() * dense
