"""What each conditioner contributes to a training batch: its networks, called on all its samples at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ....core.api.model_view import ModelView
from ....core.api.ports import BlockInsert, BlockModule, InputChannels, WeightDelta
from ....core.checkpoints.tensors import fill_module, read_tensors
from ....core.unet.group import Group
from ....plugins.conditioners.fusion_text.networks import FusionTextNetworks
from ....plugins.conditioners.grounding.networks import GroundingNetworks
from ....plugins.conditioners.mask_location.networks import MaskLocationNetworks, background
from ....plugins.conditioners.pseudo_word.networks import PseudoWordNetworks
from ....plugins.conditioners.subject_adapter.networks import SubjectAdapterNetworks
from ....plugins.shared.attention_loss import token_loss
from ....plugins.shared.gated_attention import GatedSelfAttention
from .data import Batch

BOXLESS_ONE_IN = 6
"""Of so many samples with the subject adapter, one hides its boxes."""


@dataclass(frozen=True)
class Widths:
    """Channels of the features of reference pictures: of the pooled ones, and of a patch's."""

    image: int
    patch: int


def _same(context: Tensor) -> Tensor:
    return context


@dataclass(frozen=True)
class Piece:
    """A conditioner's contribution to a batch: an edit of the text states, and groups of three other ports.

    While the UNet runs, ``attention`` takes the `token_loss` of every block that the piece inserts into.
    """

    context: Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]] = _same
    inserts: tuple[Group[BlockInsert], ...] = ()
    channels: tuple[Group[InputChannels], ...] = ()
    deltas: tuple[Group[WeightDelta], ...] = ()
    attention: list[Float[Tensor, " r"]] = field(default_factory=list)


class Part(ABC):
    """A conditioner under training.

    Args:
        model: the frozen model.
        widths: of the features of reference pictures.
        options: sizes, for the networks' ``create``.
    """

    networks: nn.Module
    needs_references: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, model: ModelView, widths: Widths, options: dict[str, Any]) -> None: ...

    def __call__(self, batch: Batch, chosen: Bool[Tensor, " b"], absent: Bool[Tensor, " b"]) -> Piece:
        """The contribution to the ``chosen`` samples, of which some take the ``absent`` form."""
        rows = chosen.nonzero()[:, 0]
        return self.piece(batch, rows, ~absent[rows]) if len(rows) else Piece()

    @abstractmethod
    def piece(self, batch: Batch, rows: Int[Tensor, " r"], present: Bool[Tensor, " r"]) -> Piece:
        """The contribution to some samples."""

    def load(self, path: Path, whole: bool = True) -> None:
        """Take trained weights; unless it is the ``whole``, what the file lacks stays as it is.

        Raises:
            UserError: a tensor is missing, left over or of another shape.
        """
        own = {} if whole else self.networks.state_dict()
        fill_module(self.networks, own | self.read(path), f"file '{path.name}'", torch.float32)

    def read(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file of weights."""
        return read_tensors(path)


def _group(entry: Any, rows: Tensor, state: Tensor) -> Group[Any]:
    return Group(entry, rows, state, torch.ones(len(rows), device=rows.device))


@dataclass(frozen=True)
class _Watched:
    """A gated self-attention that leaves its `token_loss` behind."""

    module: GatedSelfAttention
    boxes: Float[Tensor, "r m 4"]
    placed: Bool[Tensor, "r m"]
    losses: list[Float[Tensor, " r"]]

    def __call__(self, hidden: Tensor, state: Tensor, strength: Tensor, grid: tuple[int, int]) -> Tensor:
        self.losses.append(
            token_loss(self.module.looked_at(hidden, state, grid), self.boxes, self.placed, grid)
        )
        result: Tensor = self.module(hidden, state, strength, grid)
        return result


def _inserts(
    modules: Mapping[str, BlockModule],
    rows: Int[Tensor, " r"],
    state: Float[Tensor, "r m c"],
    boxes: Float[Tensor, "r m 4"],
    placed: Bool[Tensor, "r m"],
) -> Piece:
    losses: list[Float[Tensor, " r"]] = []
    if torch.is_grad_enabled():
        modules = {
            path: _Watched(cast(GatedSelfAttention, module), boxes, placed, losses)
            for path, module in modules.items()
        }
    return Piece(inserts=(_group(BlockInsert(modules, state[0]), rows, state),), attention=losses)


def _deltas(deltas: Sequence[WeightDelta], rows: Tensor) -> tuple[Group[WeightDelta], ...]:
    if not len(rows):
        return ()
    return tuple(_group(delta, rows, rows.new_zeros(len(rows), 0).float()) for delta in deltas)


class PseudoWord(Part):
    """A word of the subject's own at its noun, in the states of those tokens alone."""

    networks: PseudoWordNetworks
    needs_references = True

    def __init__(self, model: ModelView, widths: Widths, options: dict[str, Any]) -> None:
        self.text = model.text
        self.networks = PseudoWordNetworks.create(model.unet, widths.image, model.text.width, **options)

    def piece(self, batch: Batch, rows: Int[Tensor, " r"], present: Bool[Tensor, " r"]) -> Piece:
        rows = rows[present & _spoken_of(batch, rows)]
        if not len(rows):
            return Piece()
        words = self.networks.words(batch.pooled[rows], batch.referenced[rows])
        places = _token_places(batch.nouns[rows], batch.referenced[rows], batch.ids.shape[1])

        def unify(context: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
            states = self.networks.states(self.text, batch.ids[rows], words, places, context[rows])
            return context.index_copy(0, rows, states)

        return Piece(unify, deltas=_deltas(self.networks.deltas(), rows))


class FusionText(Part):
    """The whole context read anew from the extended caption, with the subjects' words at its placeholders."""

    networks: FusionTextNetworks
    needs_references = True

    def __init__(self, model: ModelView, widths: Widths, options: dict[str, Any]) -> None:
        self.text = model.text
        self.networks = FusionTextNetworks.create(
            model.text.model, model.unet, widths.image, model.text.width, **options
        )

    def read(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file; one of `pseudo_word` does too, whose word network and UNet deltas are alike."""
        return {name: tensor for name, tensor in super().read(path).items() if name != "keep"}

    def piece(self, batch: Batch, rows: Int[Tensor, " r"], present: Bool[Tensor, " r"]) -> Piece:
        rows = rows[present & _spoken_of(batch, rows)]
        if not len(rows):
            return Piece()
        words = self.networks.words(batch.pooled[rows], batch.referenced[rows])
        places = _token_places(batch.placeholders[rows], batch.referenced[rows], batch.extended.shape[1])

        def extend(context: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
            states = self.networks.states(self.text, batch.extended[rows], words, places)
            return context.index_copy(0, rows, states)

        return Piece(extend, deltas=_deltas(self.networks.deltas(), rows))


def _spoken_of(batch: Batch, rows: Int[Tensor, " r"]) -> Bool[Tensor, " r"]:
    """Whether the caption names a subject that has references; a dropped caption names none."""
    return (batch.referenced[rows].any(-1) & (batch.nouns[rows] >= 0).any(-1)).any(-1)


def _token_places(
    positions: Int[Tensor, "r s n"], referenced: Bool[Tensor, "r s k"], tokens: int
) -> Bool[Tensor, "r s t"]:
    """Which tokens are each referenced subject's; a position of -1 is none."""
    every = torch.arange(tokens, device=positions.device)
    return (positions[..., None] == every).any(2) & referenced.any(-1)[..., None]


class Grounding(Part):
    """Phrases in their boxes, as tokens of a gated self-attention."""

    networks: GroundingNetworks
    PLACES: ClassVar[int] = 30

    def __init__(self, model: ModelView, widths: Widths, options: dict[str, Any]) -> None:
        self.networks = GroundingNetworks.create(model.unet, model.text.width, **options)

    def piece(self, batch: Batch, rows: Int[Tensor, " r"], present: Bool[Tensor, " r"]) -> Piece:
        known = batch.known[rows] & present[:, None]
        blank = self.PLACES - known.shape[1]
        boxes, known = F.pad(batch.boxes[rows], (0, 0, 0, blank)), F.pad(known, (0, blank))
        state = self.networks.tokens(boxes, F.pad(batch.phrases[rows], (0, 0, 0, blank)), known)
        return _inserts(self.networks.block_modules, rows, state, boxes, known)


class SubjectAdapter(Part):
    """Patches of the reference pictures in their boxes, as tokens of a gated self-attention."""

    networks: SubjectAdapterNetworks
    needs_references = True

    def __init__(self, model: ModelView, widths: Widths, options: dict[str, Any]) -> None:
        options = dict(options)
        self.boxes = bool(options.pop("boxes", True))  # False: the ablation without coordinates
        self.networks = SubjectAdapterNetworks.create(model.unet, widths.patch, **options)

    def piece(self, batch: Batch, rows: Int[Tensor, " r"], present: Bool[Tensor, " r"]) -> Piece:
        given = batch.referenced[rows].any(-1)  # r s
        order = given.int().argsort(dim=-1, descending=True, stable=True)[:, : self.networks.places]
        pick = order[..., None]
        boxes = batch.boxes[rows].gather(1, pick.expand(-1, -1, 4))
        every = batch.patches[rows]
        patches = every.gather(1, pick[..., None].expand(-1, -1, *every.shape[2:]))
        known = given.gather(1, order) & present[:, None]
        # a place without a box learns its null too, for subjects that are shown but not placed
        boxed = (batch.number[rows] % BOXLESS_ONE_IN != 0)[:, None].expand_as(known) & self.boxes
        state = self.networks.tokens(patches, boxes, known, boxed)
        blank = self.networks.places - known.shape[1]
        boxes, placed = F.pad(boxes, (0, 0, 0, blank)), F.pad(known & boxed, (0, blank))
        of_each = patches.shape[2]
        return _inserts(
            self.networks.block_modules,
            rows,
            state,
            boxes.repeat_interleave(of_each, dim=1),
            placed.repeat_interleave(of_each, dim=1),
        )


class MaskLocation(Part):
    """Where subjects are, as a channel beside the latents: half of the samples by boxes, half by real masks."""

    networks: MaskLocationNetworks

    def __init__(self, model: ModelView, widths: Widths, options: dict[str, Any]) -> None:
        self.networks = MaskLocationNetworks.create(model.unet, **options)

    def piece(self, batch: Batch, rows: Int[Tensor, " r"], present: Bool[Tensor, " r"]) -> Piece:
        masks = (batch.masks[rows] >= 0.5).float()  # r s h w
        boxes = boxes_inside(batch.boxes[rows], (masks.shape[2], masks.shape[3])).float()
        regions = torch.where((batch.number[rows] % 2 == 0)[:, None, None, None], boxes, masks)
        channel = background(regions, batch.known[rows])
        rows, channel = rows[present], channel[present]
        if not len(rows):
            return Piece()
        channels = (_group(InputChannels(self.networks.convolution, channel[0]), rows, channel),)
        return Piece(channels=channels, deltas=_deltas(self.networks.deltas(), rows))


def boxes_inside(boxes: Float[Tensor, "r s 4"], grid: tuple[int, int]) -> Bool[Tensor, "r s h w"]:
    """The positions of a feature map whose centre is in the box."""
    height, width = grid
    rows = (torch.arange(height, device=boxes.device) + 0.5) / height
    columns = (torch.arange(width, device=boxes.device) + 0.5) / width
    left, top, right, bottom = (side[..., None] for side in boxes.unbind(-1))
    vertical = (rows >= top) & (rows <= bottom)
    horizontal = (columns >= left) & (columns <= right)
    return vertical[..., :, None] & horizontal[..., None, :]


PARTS: dict[str, type[Part]] = {
    "pseudo_word": PseudoWord,
    "fusion_text": FusionText,
    "grounding": Grounding,
    "mask_location": MaskLocation,
    "subject_adapter": SubjectAdapter,
}
