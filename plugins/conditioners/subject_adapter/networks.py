"""The trained part of `subject_adapter`: tokens of reference images in boxes, and the adapter in every block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from weft.plugin import BlockModule, fill_module

from ...shared.gated_attention import (
    FREQUENCIES,
    GatedAttentions,
    ff_ratio_of,
    fourier_features,
    has_positions,
)

POSITION = 4 * 2 * FREQUENCIES
"""Channels of a box's Fourier features."""


class SubjectAdapterNetworks(nn.Module):
    """Subject-Diffusion's adapter (arXiv 2307.11410, section 3.2, and its released code).

    Every patch of a subject's image is joined with the Fourier features of the subject's box; LayerNorm, Linear,
    GELU, Linear make a token of it, which gated self-attention reads in every transformer block. Learned vectors stand
    for an image or a box that is not known, in training and in sampling alike. Tensors are named
    ``projection.{norm,fc1,fc2}.*``, ``null_image_feature``, ``null_position_feature`` and ``adapter.<block>.fuser.*``.

    Args:
        unet: the frozen UNet; only its layers' names and sizes are read.
        patch_width: channels of a patch.
        hidden: channels of a token, and between the two linear layers; 1024 in the paper.
        ff_ratio: hidden width of the adapters' feed-forward layers, in widths of their block.
        places: subjects in an image, at most; 2 in the released code.
        positions: see `GatedSelfAttention`.
    """

    def __init__(
        self,
        unet: nn.Module,
        patch_width: int,
        hidden: int,
        ff_ratio: float = 4.0,
        places: int = 3,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            OrderedDict(
                norm=nn.LayerNorm(patch_width + POSITION),
                fc1=nn.Linear(patch_width + POSITION, hidden),
                gelu=nn.GELU(),
                fc2=nn.Linear(hidden, hidden),
            )
        )
        self.null_image_feature = nn.Parameter(torch.zeros(patch_width))
        # one a place, so that a file of weights says how many places there are
        self.null_position_feature = nn.Parameter(torch.zeros(places, POSITION))
        self.adapter = GatedAttentions(unet, hidden, ff_ratio, positions)
        # one mapping for all scenes: rows of a batch are gathered by its identity
        self.block_modules: Mapping[str, BlockModule] = self.adapter.by_block()

    @classmethod
    def create(
        cls,
        unet: nn.Module,
        patch_width: int,
        hidden: int = 1024,
        ff_ratio: float = 4.0,
        places: int = 3,
        positions: bool = False,
    ) -> SubjectAdapterNetworks:
        """New ones, in float32 on the CPU, that change nothing; the arguments are those of the class."""
        networks = cls(unet, patch_width, hidden, ff_ratio, places, positions)
        networks.adapter.open()
        return networks

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        unet: nn.Module,
        patch_width: int,
        place: str = "weights of 'subject_adapter'",
        dtype: torch.dtype = torch.float32,
    ) -> SubjectAdapterNetworks:
        """Those of a file; hidden width, feed-forward ratio and places follow from the tensors.

        Raises:
            UserError: a tensor is missing, left over or of another shape; it names the tensor and both shapes.
        """
        hidden = _first_side(tensors, "projection.fc1.weight")
        places = _first_side(tensors, "null_position_feature")
        with torch.device("meta"):
            ff_ratio = ff_ratio_of(tensors, unet, "adapter.")
            networks = cls(unet, patch_width, hidden, ff_ratio, places, has_positions(tensors))
        fill_module(networks, tensors, place, dtype)
        return networks.eval()

    @property
    def places(self) -> int:
        """Subjects in an image, at most."""
        return len(self.null_position_feature)

    def tokens(
        self,
        patches: Float[Tensor, "b s p w"],
        boxes: Float[Tensor, "b s 4"],
        known: Bool[Tensor, "b s"],
        boxed: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t c"]:
        """Tokens for `block_modules`, t = places * p; a place without a subject holds tokens of the nulls.

        Args:
            patches: of each subject's image; s is at most `places`.
            boxes: (left, top, right, bottom) in fractions.
            known: which subjects there are; nothing is read of the others.
            boxed: which of them have a box; all by default.
        """
        blank = self.places - patches.shape[1]
        assert blank >= 0, f"{patches.shape[1]} subjects for {self.places} places"
        boxed = known if boxed is None else known & boxed
        patches, boxes = F.pad(patches, (0, 0, 0, 0, 0, blank)), F.pad(boxes, (0, 0, 0, blank))
        known, boxed = F.pad(known, (0, blank)), F.pad(boxed, (0, blank))

        null = self.null_image_feature
        images = torch.where(known[..., None, None], patches.to(null), null)  # b s p w
        exact = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
        positions = torch.where(
            boxed[..., None], fourier_features(exact).to(null), self.null_position_feature
        )
        positions = repeat(positions, "b s f -> b s p f", p=patches.shape[2])
        tokens: Tensor = self.projection(torch.cat([images, positions], dim=-1))
        return rearrange(tokens, "b s p c -> b (s p) c")


def _first_side(tensors: Mapping[str, Tensor], name: str) -> int:
    """The first side of a tensor; 1 where there is none, which `fill` then reports."""
    tensor = tensors.get(name)
    return 1 if tensor is None or not tensor.ndim else max(1, len(tensor))
