"""The six ports: everything that a conditioner may hand to the text encoder and to the UNet.

A contribution is a tuple of the entries below, or of `MapEdit`; the class of an entry is its port. Tensors hold one
sample, without a batch axis: the engine gathers the entries of all rows of a batch. Every entry has a strength, 1 as
given; the engine scales it by a branch's strength, and leaves an entry of strength 0 out, so that 0 is absence bit for
bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from ..errors import UserError
from ..scene.region import Resize

AnyEntry = TypeVar("AnyEntry", bound="Entry")  # not Self, which beartype cannot check on a lone method


@dataclass(frozen=True, eq=False)
class Entry:
    """Base of the port entries; only its subclasses are used.

    Args:
        strength: 1 is as it is; 0 is absence, bit for bit.
        region: where it acts, as a mask in [0, 1] of the whole image; None is everywhere. What it means is said at each
            port. A mask of ones is no mask, bit for bit.
        resize: how the mask becomes as small as a feature map.
        origin: the conditioner that it came from; the engine writes it.
    """

    strength: float = field(default=1.0, kw_only=True)
    region: Float[Tensor, "_h _w"] | None = field(default=None, kw_only=True)
    resize: Resize = field(default="area", kw_only=True)
    origin: str = field(default="", kw_only=True)

    def scaled(self: AnyEntry, factor: float) -> AnyEntry:
        """The same entry at another strength."""
        return self if factor == 1.0 else replace(self, strength=self.strength * factor)


@dataclass(frozen=True, eq=False)
class TokenEmbeddings(Entry):
    """Port 1, token embeddings: vectors written over words before the text transformer.

    Args:
        positions: where, in the tokens of the branch's prompt.
        vectors: what; at strength s the result is ``word + s * (vector - word)``.

    In a region, the image reads the text with these vectors there, and the text without them elsewhere: the outputs of
    both cross-attentions are weighted.
    """

    positions: Int[Tensor, " n"]
    vectors: Float[Tensor, "n d"]

    def write(self, embeddings: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return _blend(embeddings, self.positions, self.vectors, self.strength)


@dataclass(frozen=True, eq=False)
class TextStates(Entry):
    """Port 2, text states: vectors written over the text encoder's output, blended as in `TokenEmbeddings`, and in a
    region read as there."""

    positions: Int[Tensor, " n"]
    states: Float[Tensor, "n d"]

    def write(self, context: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return _blend(context, self.positions, self.states, self.strength)


@dataclass(frozen=True, eq=False)
class ContextTokens(Entry):
    """Port 2, extra context tokens, a sequence of any length beside the text, or in its place.

    How they join, with the weight ``w``, the strength times the region:

    - ``added``: an attention of their own, added to the text's: ``text + w * extra`` (IP-Adapter, arXiv 2308.06721).
    - ``instead``: an attention of their own, in place of the text's: ``(1 - w) * text + w * extra``; of several, each
      in place of the text and of those before it. At weight 1 the branch's context is replaced, below it mixed, within
      a region only there: a prompt, or a negative prompt, for one subject.
    - ``shared``: one softmax with the text's tokens, with ``log w`` added to their scores.

    Args:
        tokens: extra keys' source, and the values' by default.
        projections: key and value projections by transformer block path; a block that is not named takes part with
            its own text projections when the mapping is empty, and not at all otherwise. Not with ``shared``.
        joined: how.
        values: the values' source, where it is another sequence (as in arXiv 2212.05032); not with ``shared``.

    In a region, the weight is 0 elsewhere.
    """

    tokens: Float[Tensor, "m d"]
    projections: Mapping[str, tuple[nn.Module, nn.Module]] = field(default_factory=dict)
    joined: Literal["added", "instead", "shared"] = "added"
    values: Float[Tensor, "_m d"] | None = None

    def __post_init__(self) -> None:
        if self.joined == "shared" and (self.projections or self.values is not None):
            place = "ContextTokens, joined 'shared'"
            raise UserError(place, "the text's own projections and one sequence", "others")
        if self.values is not None and self.values.shape != self.tokens.shape:
            shape, other = tuple(self.tokens.shape), tuple(self.values.shape)
            raise UserError("ContextTokens, 'values'", f"the shape of the tokens, {shape}", str(other))

    @property
    def sources(self) -> Float[Tensor, "k m d"]:
        """What the keys are made of, and, where it is another sequence, the values."""
        return self.tokens[None] if self.values is None else torch.stack([self.tokens, self.values])


@dataclass(frozen=True, eq=False)
class TextRegion(Entry):
    """Port 2, words that are read in one region only.

    Args:
        positions: the tokens that are limited.
        mask: 1 where they may be read, 0 where not. The logarithm of ``1 - s + s * mask`` is added to the scores.

    In a region, the limit holds there and nowhere else.
    """

    positions: Int[Tensor, " n"]
    mask: Float[Tensor, "h w"]


@runtime_checkable
class BlockModule(Protocol):
    """A residual module between self- and cross-attention of one transformer block.

    It is called with the hidden states, the stacked states of its rows, a strength a row, which must scale the whole
    residual, and the feature map's (height, width), by which the n positions lie row by row; it returns the new hidden
    states.
    """

    def __call__(
        self,
        hidden: Float[Tensor, "r n c"],
        state: Float[Tensor, "r ..."],
        strength: Float[Tensor, " r"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "r n c"]: ...


@dataclass(frozen=True, eq=False)
class BlockInsert(Entry):
    """Port 3, block: modules by transformer block path, and the sample's state that they read.

    In a region, what the module changes is blended in there.
    """

    modules: Mapping[str, BlockModule]
    state: Float[Tensor, "..."]


@dataclass(frozen=True)
class Residuals:
    """Feature residuals, each with a batch axis. Empty or None where there is nothing to add.

    Args:
        skips: one tensor for every skip connection, first to last (ControlNet).
        middle: added to the middle block's output (ControlNet).
        blocks: one tensor for every down block, before its downsampler (T2I-Adapter).
    """

    skips: tuple[Float[Tensor, "r _c _h _w"], ...] = ()
    middle: Float[Tensor, "r _c _h _w"] | None = None
    blocks: tuple[Float[Tensor, "r _c _h _w"], ...] = ()


@runtime_checkable
class ResidualModule(Protocol):
    """Computes feature residuals for its rows."""

    def __call__(
        self,
        latents: Float[Tensor, "r c h w"],
        timestep: Num[Tensor, ""] | Num[Tensor, " s"],
        context: Float[Tensor, "r t d"],
        state: Float[Tensor, "r ..."],
    ) -> Residuals: ...


@dataclass(frozen=True, eq=False)
class FeatureResiduals(Entry):
    """Port 4, feature residuals: a module called at every step, and the sample's state that it reads.

    In a region, they are multiplied by the mask at their size.
    """

    module: ResidualModule
    state: Float[Tensor, "..."]


@dataclass(frozen=True, eq=False)
class InputChannels(Entry):
    """Port 5, input channels: a convolution whose output is added to that of ``conv_in``.

    This is the same linear map as a widened ``conv_in``, and leaves the UNet as it is when absent. In a region, the
    output is multiplied by the mask.
    """

    convolution: nn.Module
    channels: Float[Tensor, "c h w"]


@dataclass(frozen=True, eq=False)
class WeightDelta(Entry):
    """Port 6, weights: a change of one linear, convolution or norm layer, added to its output; no parameter is written.

    Args:
        path: the layer's name in its model.
        up: (out, rank, ...) or, with ``down`` None, the whole delta in the parameter's shape.
        down: (rank, in, ...); its kernel is the layer's, and ``up`` then is 1x1. Not for biases and norms.
        target: which model.
        parameter: of the layer. A layer without a bias may be given one.

    In a region, what a layer adds is multiplied by the mask at its feature map's size. The keys and values of the text,
    and what a delta of the text encoder changes, have no place in the image: there the region reads a text of its own,
    as with `TokenEmbeddings`. Layers of the time embedding have none either, and take the region's share of the image.
    """

    path: str
    up: Float[Tensor, "..."]
    down: Float[Tensor, "..."] | None = None
    target: Literal["unet", "text_encoder"] = "unet"
    parameter: Literal["weight", "bias"] = "weight"


Contribution: TypeAlias = tuple[Entry, ...]


def _blend(base: Tensor, positions: Tensor, vectors: Tensor, strength: float) -> Tensor:
    vectors = vectors.to(base)
    if strength != 1.0:
        vectors = torch.lerp(base[:, positions], vectors.expand(base.shape[0], -1, -1), strength)
    written = base.clone()
    written[:, positions] = vectors
    return written
