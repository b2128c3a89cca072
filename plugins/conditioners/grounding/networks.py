"""All that grounding trains: a tokenizer, gated self-attention in every block, and channels to inpaint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from weft.plugin import BlockModule, ByPath, UserError, fill_module

from ...shared.gated_attention import GatedAttentions, GatedSelfAttention, ff_ratio_of, has_positions
from .inpainting import WidenedInput
from .keys import in_diffusers_names
from .tokenizers import KeypointTokenizer, Known, TextImageTokenizer, TextTokenizer

Tokenizer = TextTokenizer | TextImageTokenizer | KeypointTokenizer
T = TypeVar("T")


class GroundingNetworks(ByPath):
    """The trained parts, whose tensors have diffusers' names: ``position_net.*``, ``<block>.fuser.*``, ``conv_in.*``.

    Args:
        unet: the frozen UNet that they serve; it is only read.
        tokenizer: makes the grounding tokens.
        tokens: channels of a token.
        inpainting: whether ``conv_in`` is widened by the kept latents and their mask.
        ff_ratio: hidden width of the blocks' feed-forward layers, in widths of their block.
        positions: see `GatedSelfAttention`.

    Attributes:
        block_modules: the block port's modules; the same object every time, by which the rows of a batch are gathered.
    """

    def __init__(
        self,
        unet: Any,
        tokenizer: Tokenizer,
        tokens: int,
        inpainting: bool = False,
        ff_ratio: float = 4.0,
        positions: bool = False,
    ) -> None:
        gated = GatedAttentions(unet, tokens, ff_ratio, positions)
        parts: dict[str, nn.Module] = {"position_net": tokenizer, **gated.by_path()}
        if inpainting:
            parts["conv_in"] = WidenedInput(unet.conv_in)
        super().__init__(parts)
        self.block_modules: Mapping[str, BlockModule] = gated.by_block()

    @classmethod
    def create(
        cls,
        unet: Any,
        text_width: int,
        hidden: int = 512,
        *,
        tokenizer: Literal["text", "text_image", "keypoints"] = "text",
        image_width: int | None = None,
        persons: int = 8,
        keypoints: int = 17,
        inpainting: bool = False,
        ff_ratio: float = 4.0,
        positions: bool = False,
    ) -> GroundingNetworks:
        """Fresh networks to train, in float32 on the CPU: with last layers of zero they change nothing.

        Args:
            unet: the frozen UNet.
            text_width: channels of a phrase's feature.
            hidden: channels within the tokenizer's projections.
            tokenizer: ``text``: phrases in boxes; ``text_image``: phrases, images or both in boxes; ``keypoints``.
            image_width: channels of an image's feature; the phrase's by default.
            persons: how many an image, for keypoints.
            keypoints: kinds of keypoints.
            inpainting: whether ``conv_in`` is widened, with zeros for the further channels.
            ff_ratio: hidden width of the blocks' feed-forward layers, in widths of their block.
            positions: whether positions say where they are, which GLIGEN has not; see `GatedSelfAttention`.
        """
        out = int(unet.config["cross_attention_dim"])
        reader: Tokenizer
        if tokenizer == "text":
            reader = TextTokenizer(text_width, hidden, out)
        elif tokenizer == "text_image":
            reader = TextImageTokenizer(text_width, image_width or text_width, hidden, out)
        else:
            reader = KeypointTokenizer(persons, keypoints, hidden, out)
        networks = cls(unet, reader, out, inpainting, ff_ratio, positions)
        for module in networks.modules():
            if isinstance(module, GatedSelfAttention):
                module.open()
        if networks.inpainting is not None:
            networks.inpainting.reset()
        return networks

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], unet: Any, place: str = "weights of 'grounding'"
    ) -> GroundingNetworks:
        """Frozen networks of a file's tensors, on the UNet's device and in its dtype.

        Args:
            tensors: in diffusers' names or those of GLIGEN's repository, alone or within a whole UNet.
            unet: the UNet that they are for.
            place: what an error names.

        Raises:
            UserError: names or shapes are not those of grounding for this UNet; names the tensor and both shapes.
        """
        named = in_diffusers_names(tensors, unet, place)
        with torch.device("meta"):
            tokenizer, tokens = _tokenizer(named, place)
            networks = cls(
                unet,
                tokenizer,
                tokens,
                "conv_in.weight" in named,
                ff_ratio_of(named, unet),
                has_positions(named),
            )
        fill_module(networks, named, place, unet.dtype)
        return networks.to(unet.device).eval().requires_grad_(False)

    @property
    def tokenizer(self) -> Tokenizer:
        """The part named ``position_net``."""
        return self.get_submodule("position_net")  # type: ignore[return-value]

    @property
    def inpainting(self) -> WidenedInput | None:
        """The part named ``conv_in``; None where the model does not inpaint."""
        first = self._modules.get("conv_in")
        return first if isinstance(first, WidenedInput) else None

    def tokens(
        self, boxes: Float[Tensor, "b n 4"], features: Float[Tensor, "b n d"], known: Known
    ) -> Float[Tensor, "b n c"]:
        """Tokens of phrases in boxes (tokenizer ``text``).

        Args:
            boxes: (left, top, right, bottom) in fractions of the image.
            features: the phrases', see `weft.plugins.conditioners.grounding.features.phrase_features`.
            known: 1 where there is an object; all zeros give the null tokens.
        """
        return self._as(TextTokenizer)(boxes, features, known)  # type: ignore[no-any-return]

    def text_image_tokens(
        self,
        boxes: Float[Tensor, "b n 4"],
        text: Float[Tensor, "b n d"],
        text_known: Known,
        image: Float[Tensor, "b n e"],
        image_known: Known,
    ) -> Float[Tensor, "b m c"]:
        """Tokens of phrases, images or both in boxes (tokenizer ``text_image``), m = 2 n: the phrases' first."""
        return self._as(TextImageTokenizer)(boxes, text, text_known, image, image_known)  # type: ignore[no-any-return]

    def keypoint_tokens(self, points: Float[Tensor, "b n 2"], known: Known) -> Float[Tensor, "b n c"]:
        """Tokens of points (left, top) in fractions of the image (tokenizer ``keypoints``), person by person."""
        return self._as(KeypointTokenizer)(points, known)  # type: ignore[no-any-return]

    def _as(self, kind: type[T]) -> T:
        tokenizer = self.tokenizer
        if not isinstance(tokenizer, kind):
            raise TypeError(f"these networks have a {type(tokenizer).__name__}, not a {kind.__name__}")
        return tokenizer


def _tokenizer(tensors: Mapping[str, Tensor], place: str) -> tuple[Tokenizer, int]:
    """A tokenizer of the shapes that the file has, and the channels of its tokens."""

    def shape(name: str, dimensions: int) -> list[int]:
        name = f"position_net.{name}"
        if name not in tensors:
            raise UserError(place, f"a tensor '{name}'", "none")
        if tensors[name].ndim != dimensions:
            raise UserError(
                f"{place}, tensor '{name}'",
                f"{dimensions} dimension(s)",
                f"shape {tuple(tensors[name].shape)}",
            )
        return list(tensors[name].shape)

    if "position_net.linears_text.0.weight" in tensors:
        hidden, _ = shape("linears_text.0.weight", 2)
        (text,), (image,) = shape("null_text_feature", 1), shape("null_image_feature", 1)
        out, _ = shape("linears_text.4.weight", 2)
        return TextImageTokenizer(text, image, hidden, out), out
    hidden, _ = shape("linears.0.weight", 2)
    out, _ = shape("linears.4.weight", 2)
    if "position_net.person_embeddings" in tensors:
        (persons, _), (keypoints, _) = shape("person_embeddings", 2), shape("keypoint_embeddings", 2)
        return KeypointTokenizer(persons, keypoints, hidden, out), out
    (text,) = shape("null_positive_feature", 1)
    return TextTokenizer(text, hidden, out), out
