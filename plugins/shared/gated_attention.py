"""Gated self-attention between a block's self- and cross-attention, and Fourier features of boxes (GLIGEN).

Li et al. 2023, arXiv 2301.07093, sections 3.1 and 3.2. Subject-Diffusion's adapter (arXiv 2307.11410) is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from weft.plugin import BlockModule, ByPath, cross_attention_paths, self_attention

FREQUENCIES = 8


def fourier_features(
    coordinates: Float[Tensor, "*b k"], frequencies: int = FREQUENCIES
) -> Float[Tensor, "*b f"]:
    """Sines and cosines of coordinates at the frequencies 100^(i / frequencies), without a factor of pi.

    Args:
        coordinates: in [0, 1]: the four of a box (left, top, right, bottom), or the two of a point.
        frequencies: how many; 8 in the paper's code.

    Returns:
        f = frequencies * 2 * k channels, in the coordinates' dtype: by frequency, then the sines of all coordinates,
        then their cosines.
    """
    scales = (100 ** (torch.arange(frequencies, dtype=torch.float32) / frequencies)).to(coordinates)
    angles = coordinates[..., None, :] * scales[:, None]
    return torch.stack((angles.sin(), angles.cos()), dim=-2).flatten(-3)  # *b (frequency, sine or cosine, k)


class GatedSelfAttention(nn.Module):
    """Self-attention over a block's hidden states and extra tokens, added through gates that start closed.

    ``x = x + tanh(alpha_attn) * attn(norm1([x, linear(tokens)]))``, then ``x = x + tanh(alpha_dense) * ff(norm2(x))``
    (equation 8, with the feed-forward layer of the released code). Tensors are named as in diffusers'
    `GatedSelfAttentionDense`, and at strength 1 the result is its result, bit for bit.

    With ``positions``, which the paper has not, every position also says where it is, by a linear layer over the
    Fourier features of its centre. A token says where its box is, but a small UNet hardly knows where its own features
    are: see docs/training.md.

    Args:
        width: channels of the hidden states.
        token_width: channels of the tokens.
        heads: of the block's attention.
        ff_ratio: hidden width of the feed-forward layer, in widths; 4 in the paper's code.
        positions: whether positions say where they are.
    """

    def __init__(
        self, width: int, token_width: int, heads: int, ff_ratio: float = 4.0, positions: bool = False
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(token_width, width)
        self.attn = Attention(query_dim=width, heads=heads, dim_head=width // heads)
        self.ff = FeedForward(width, activation_fn="geglu", inner_dim=round(width * ff_ratio))
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.alpha_attn = nn.Parameter(torch.zeros(()))
        self.alpha_dense = nn.Parameter(torch.zeros(()))
        self.position = nn.Linear(2 * 2 * FREQUENCIES, width) if positions else None

    @torch.no_grad()
    def open(self) -> None:
        """Open the gates and make both last layers zero instead: still nothing is added, but all learns at once.

        Behind a closed gate an untrained attention and its gate wait for each other.
        """
        self.alpha_attn.fill_(1.0)
        self.alpha_dense.fill_(1.0)
        for last in (self.attn.to_out[0], self.ff.net[-1]):
            last.weight.zero_()
            last.bias.zero_()

    def forward(
        self,
        hidden: Float[Tensor, "r n c"],
        state: Float[Tensor, "r m d"],
        strength: Float[Tensor, " r"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "r n c"]:
        """The hidden states after the module; ``strength`` scales each row's whole residual."""
        attended = self_attention(self.attn, self._joined(hidden, state, grid))[:, : hidden.shape[1]]
        fused = hidden + self.alpha_attn.tanh() * attended
        fused = fused + self.alpha_dense.tanh() * self.ff(self.norm2(fused))
        # lerp gives its ends exactly, so a row of strength 1 or 0 is untouched by rounding
        return torch.lerp(hidden, fused, rearrange(strength.to(fused), "r -> r 1 1"))

    def looked_at(
        self, hidden: Float[Tensor, "r n c"], state: Float[Tensor, "r m d"], grid: tuple[int, int]
    ) -> Float[Tensor, "r n m"]:
        """What every position looks at among the tokens alone: logarithms of probabilities, averaged over heads."""
        joined = self._joined(hidden, state, grid)
        positions, tokens = joined[:, : hidden.shape[1]], joined[:, hidden.shape[1] :]
        split = "r n (heads d) -> r heads n d"
        query = rearrange(self.attn.to_q(positions), split, heads=self.attn.heads)
        key = rearrange(self.attn.to_k(tokens), split, heads=self.attn.heads)
        scores: Tensor = query @ key.mT * self.attn.scale
        return scores.log_softmax(dim=-1).logsumexp(dim=1) - math.log(self.attn.heads)

    def _joined(self, hidden: Tensor, state: Tensor, grid: tuple[int, int]) -> Float[Tensor, "r nm c"]:
        joined: Tensor = self.norm1(torch.cat([hidden, self.linear(state)], dim=1))
        if self.position is None:
            return joined
        places = self.position(fourier_features(centres(grid).to(joined)))
        return joined + F.pad(places, (0, 0, 0, state.shape[1]))


def centres(grid: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """(left, top) of the centre of every position of a feature map, in fractions of the image, row by row."""
    height, width = grid
    top, left = torch.meshgrid(
        *((torch.arange(side, dtype=torch.float32) + 0.5) / side for side in (height, width)), indexing="ij"
    )
    return torch.stack([left, top], dim=-1).flatten(0, 1)


class GatedAttentions(ByPath):
    """One `GatedSelfAttention` for every transformer block of a UNet, fresh, with closed gates.

    Its tensors are named ``<block>.fuser.<name>``, as in a diffusers UNet of attention type "gated".

    Args:
        unet: a diffusers UNet; only its layers' names and sizes are read.
        token_width: channels of the tokens.
        ff_ratio: of every module.
        positions: of every module.
    """

    def __init__(
        self, unet: nn.Module, token_width: int, ff_ratio: float = 4.0, positions: bool = False
    ) -> None:
        super().__init__(
            {
                f"{path}.fuser": GatedSelfAttention(
                    layer.to_q.in_features, token_width, layer.heads, ff_ratio, positions
                )
                for path, layer in cross_attention_paths(unet).items()
            }
        )

    def open(self) -> None:
        """Open the gates of every module; see `GatedSelfAttention.open`."""
        for module in self.by_path().values():
            cast(GatedSelfAttention, module).open()

    def by_block(self) -> dict[str, BlockModule]:
        """The modules by transformer block path, as `BlockInsert` takes them."""
        return {
            path.removesuffix(".fuser"): cast(BlockModule, module) for path, module in self.by_path().items()
        }


def has_positions(tensors: Iterable[str]) -> bool:
    """Whether tensors of `GatedAttentions`, by their names, have ``positions``."""
    return any(name.endswith(".fuser.position.weight") for name in tensors)


def ff_ratio_of(tensors: Mapping[str, Tensor], unet: nn.Module, prefix: str = "") -> float:
    """The ``ff_ratio`` that the tensors of `GatedAttentions` were made with; 4 where they do not say.

    Args:
        tensors: of a file.
        unet: the UNet that they were made for.
        prefix: what stands before the names of `GatedAttentions`' tensors.
    """
    for path, layer in cross_attention_paths(unet).items():
        weight = tensors.get(f"{prefix}{path}.fuser.ff.net.2.weight")
        if weight is not None and weight.ndim == 2:
            return float(weight.shape[1] / layer.to_q.in_features)
    return 4.0
