"""From what is known of objects to grounding tokens (GLIGEN, arXiv 2301.07093, section 3.1, and its released code)."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...shared.gated_attention import FREQUENCIES, fourier_features

Known = Bool[Tensor, "b n"] | Float[Tensor, "b n"]


def fourier(coordinates: Float[Tensor, "b n k"]) -> Float[Tensor, "b n f"]:
    """Fourier features, computed in float32 at least: the highest frequency is coarse in half precision."""
    return fourier_features(coordinates.to(torch.promote_types(coordinates.dtype, torch.float32)))


def projection(features: int, position: int, hidden: int, out: int) -> nn.Sequential:
    """The three linear layers that turn an object's feature and position into a token."""
    return nn.Sequential(
        nn.Linear(features + position, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, out),
    )


def or_null(
    features: Float[Tensor, "b n d"], null: Float[Tensor, " d"], known: Known
) -> Float[Tensor, "b n d"]:
    """The features of what is known, and a learned vector in place of the others."""
    return torch.where(known[..., None] > 0.5, features.to(null), null)


class TextTokenizer(nn.Module):
    """Tokens of phrases in boxes.

    Args:
        text: channels of a phrase's feature.
        hidden: channels within the projection.
        out: channels of a token.
    """

    def __init__(self, text: int, hidden: int, out: int) -> None:
        super().__init__()
        position = 4 * 2 * FREQUENCIES
        self.linears = projection(text, position, hidden, out)
        self.null_positive_feature = nn.Parameter(torch.zeros(text))
        self.null_position_feature = nn.Parameter(torch.zeros(position))

    def forward(
        self, boxes: Float[Tensor, "b n 4"], features: Float[Tensor, "b n d"], known: Known
    ) -> Float[Tensor, "b n c"]:
        """Tokens; where nothing is known both the feature and the position are null, before the projection."""
        positions = or_null(fourier(boxes), self.null_position_feature, known)
        features = or_null(features, self.null_positive_feature, known)
        tokens: Tensor = self.linears(torch.cat([features, positions], dim=-1))
        return tokens


class TextImageTokenizer(nn.Module):
    """Tokens of phrases and of images in the same boxes: those of the phrases first, then those of the images.

    Args:
        text: channels of a phrase's feature.
        image: channels of an image's feature.
        hidden: channels within the projections.
        out: channels of a token.
    """

    def __init__(self, text: int, image: int, hidden: int, out: int) -> None:
        super().__init__()
        position = 4 * 2 * FREQUENCIES
        self.linears_text = projection(text, position, hidden, out)
        self.linears_image = projection(image, position, hidden, out)
        self.null_text_feature = nn.Parameter(torch.zeros(text))
        self.null_image_feature = nn.Parameter(torch.zeros(image))
        self.null_position_feature = nn.Parameter(torch.zeros(position))

    def forward(
        self,
        boxes: Float[Tensor, "b n 4"],
        text: Float[Tensor, "b n d"],
        text_known: Known,
        image: Float[Tensor, "b n e"],
        image_known: Known,
    ) -> Float[Tensor, "b m c"]:
        """Tokens, m = 2 n; a box of which only one of the two is known takes the null of the other."""
        known = torch.maximum(text_known.to(boxes), image_known.to(boxes))
        positions = or_null(fourier(boxes), self.null_position_feature, known)
        text = or_null(text, self.null_text_feature, text_known)
        image = or_null(image, self.null_image_feature, image_known)
        of_text = self.linears_text(torch.cat([text, positions], dim=-1))
        of_image = self.linears_image(torch.cat([image, positions], dim=-1))
        return torch.cat([of_text, of_image], dim=1)


class KeypointTokenizer(nn.Module):
    """Tokens of the keypoints of persons: every person has its own embedding, and so has every kind of keypoint.

    Args:
        persons: how many an image.
        keypoints: kinds of keypoints.
        hidden: channels within the projection.
        out: channels of a token.
    """

    def __init__(self, persons: int, keypoints: int, hidden: int, out: int) -> None:
        super().__init__()
        position = 2 * 2 * FREQUENCIES
        self.person_embeddings = nn.Parameter(0.02 * torch.randn(persons, out))
        self.keypoint_embeddings = nn.Parameter(0.02 * torch.randn(keypoints, out))
        self.linears = projection(out, position, hidden, out)
        self.null_person_feature = nn.Parameter(torch.zeros(out))
        self.null_xy_feature = nn.Parameter(torch.zeros(position))

    def forward(self, points: Float[Tensor, "b n 2"], known: Known) -> Float[Tensor, "b n c"]:
        """Tokens of points, n = persons * keypoints, all of the first person before those of the second."""
        named = rearrange(
            self.person_embeddings[:, None] + self.keypoint_embeddings,
            "persons keypoints c -> (persons keypoints) c",
        )
        named = repeat(named, "n c -> b n c", b=len(points))
        positions = or_null(fourier(points), self.null_xy_feature, known)
        features = or_null(named, self.null_person_feature, known)
        tokens: Tensor = self.linears(torch.cat([features, positions], dim=-1))
        return tokens
