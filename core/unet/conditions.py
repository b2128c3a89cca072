"""Gathering port entries of all rows of a batch, so that every module runs once on the rows that it concerns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...kernels.cross_attention import Regions, Segments
from ..api.attention_maps import AttentionKind, Grid
from ..api.map_edits import MapEdit, MapRows
from ..api.ports import (
    BlockInsert,
    ContextTokens,
    Contribution,
    Entry,
    FeatureResiduals,
    InputChannels,
    TextRegion,
    TextStates,
    TokenEmbeddings,
    WeightDelta,
)
from ..scene.pixels import resize
from .entry_calls import refused

E = TypeVar("E", bound=Entry)

# finite, so that a row whose words are all masked out still has a softmax
MASKED = -1e4


@dataclass(frozen=True)
class Group(Generic[E]):
    """Entries of one port that share their modules, one per row.

    Args:
        entry: the first of them; its modules are everybody's.
        rows: which rows of the batch; None when it is all of them, in order.
        state: the entries' tensors, stacked.
        strength: one number per row.
    """

    entry: E
    rows: Int[Tensor, " r"] | None
    state: Float[Tensor, "r ..."]
    strength: Float[Tensor, " r"]

    def of(self, batch: Tensor) -> Tensor:
        """The rows of a batch that the group concerns."""
        return batch if self.rows is None else batch[self.rows]

    def put(self, batch: Tensor, part: Tensor) -> Tensor:
        """The batch with the group's rows replaced."""
        return part if self.rows is None else batch.index_copy(0, self.rows, part)

    def column(self, like: Tensor) -> Tensor:
        """The strengths, shaped to multiply a tensor of the group's rows."""
        return self.strength.to(like).view(-1, *[1] * (like.ndim - 1))

    def add(self, batch: Tensor, part: Tensor) -> Tensor:
        """The batch with ``strength * part`` added to the group's rows."""
        return self.plus(batch, self.column(part) * part)

    def plus(self, batch: Tensor, part: Tensor) -> Tensor:
        """The batch with ``part`` added to the group's rows."""
        return batch + part if self.rows is None else batch.index_add(0, self.rows, part.to(batch))


@dataclass(frozen=True)
class MapEdits:
    """The map edits at one layer.

    Args:
        rows: which rows of the batch any of them concerns; None when it is all of them, in order.
        groups: the edits, whose rows are counted among ``rows``.
        of: what the rows of each group are.
    """

    rows: Int[Tensor, " r"] | None
    groups: tuple[Group[MapEdit], ...]
    of: tuple[MapRows, ...]


@dataclass(frozen=True)
class Conditions:
    """What one batch of UNet rows is conditioned on.

    Args:
        context: text states.
        padded: which of them stand in for a shorter row's missing ones, and are not attended to; None for none.
        added: what enters by the time embedding, by name.
        rows: what each row is, for map edits.
        sets: by conditioner, rows that belong together; of others each is alone.
        tokens, regions, inserts, edits, residuals, channels, deltas: the groups of each port.
    """

    context: Float[Tensor, "r t d"]
    padded: Bool[Tensor, "r t"] | None = None
    added: Mapping[str, Float[Tensor, "r ..."]] = field(default_factory=dict)
    rows: MapRows = field(default_factory=MapRows)
    sets: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    tokens: tuple[Group[ContextTokens], ...] = ()
    regions: tuple[Group[TextRegion], ...] = ()
    inserts: tuple[Group[BlockInsert], ...] = ()
    edits: tuple[Group[MapEdit], ...] = ()
    residuals: tuple[Group[FeatureResiduals], ...] = ()
    channels: tuple[Group[InputChannels], ...] = ()
    deltas: tuple[Group[WeightDelta], ...] = ()
    _regions: dict[Grid, Regions] = field(default_factory=dict, repr=False)
    _segments: dict[tuple[str, int, int], Segments] = field(default_factory=dict, repr=False)
    _edits: dict[tuple[AttentionKind, str], MapEdits | None] = field(default_factory=dict, repr=False)

    def regions_at(self, grid: Grid) -> Regions | None:
        """What text regions, and ends of shorter texts, add to the attention scores on a feature map of this size.

        None when there are none.
        """
        if not self.regions and self.padded is None:
            return None
        if grid not in self._regions:
            rows, tokens, _ = self.context.shape
            space, which = [], []
            if self.padded is not None:
                space.append(self.context.new_full((rows, grid[0] * grid[1]), MASKED))
                which.append(self.padded.to(self.context))
            for group in self.regions:
                kept = resize(group.state, grid)
                kept = 1.0 - group.column(kept) + group.column(kept) * kept
                logarithm = rearrange(kept.clamp_min(0).log().clamp_min(MASKED), "r h w -> r (h w)")
                space.append(
                    group.put(self.context.new_zeros(rows, grid[0] * grid[1]), logarithm.to(self.context))
                )
                member = self.context.new_zeros(tokens)
                member[group.entry.positions] = 1.0
                which.append(member.expand(rows, -1))
            self._regions[grid] = Regions(torch.stack(space, dim=1), torch.stack(which, dim=1))
        return self._regions[grid]

    def edits_at(self, attention: AttentionKind, path: str) -> MapEdits | None:
        """The map edits of one attention of one transformer block; None when there are none."""
        if not self.edits:
            return None
        if (attention, path) not in self._edits:
            groups = [
                group
                for group in self.edits
                if group.entry.attention == attention
                and (group.entry.paths is None or path in group.entry.paths)
            ]
            self._edits[attention, path] = self._map_edits(groups) if groups else None
        return self._edits[attention, path]

    def _map_edits(self, groups: Sequence[Group[MapEdit]]) -> MapEdits:
        count, device = len(self.context), self.context.device
        of_group = [
            tuple(range(count)) if group.rows is None else tuple(group.rows.tolist()) for group in groups
        ]
        rows = tuple(sorted(set().union(*of_group)))
        place = {row: number for number, row in enumerate(rows)}
        within = [
            None if own == rows else torch.tensor([place[row] for row in own], device=device)
            for own in of_group
        ]
        return MapEdits(
            None if len(rows) == count else torch.tensor(rows, device=device),
            tuple(replace(group, rows=own) for group, own in zip(groups, within, strict=True)),
            tuple(
                replace(self.rows, sets=self.sets.get(group.entry.origin, self.rows.sets)).only(own)
                for group, own in zip(groups, of_group, strict=True)
            ),
        )

    @property
    def started(self) -> bool:
        """Whether a forward pass under these conditions has made keys and values already."""
        return bool(self._segments)

    def segments_at(self, path: str, grid: Grid, make: Callable[[], Segments]) -> Segments:
        """Keys and values at one layer, made once: they do not depend on the latents, so later steps find them here.

        A Conditions object therefore belongs to one UNet, whose parameters stay as they are.
        """
        key = (path, *grid)
        if key in self._segments:
            return self._segments[key]
        segments = make()
        differentiable = segments.key.requires_grad or segments.value.requires_grad
        if not differentiable and not torch.compiler.is_compiling():
            self._segments[key] = segments
        return segments


def gather(
    contexts: Sequence[Float[Tensor, "_t d"]],
    rows: Sequence[Contribution],
    added: Sequence[Mapping[str, Float[Tensor, "..."]]] = ({},),
    what: MapRows | None = None,
    sets: Mapping[str, tuple[tuple[int, ...], ...]] | None = None,
) -> Conditions:
    """Group the contributions of all rows by port and module.

    Args:
        contexts: every row's text states, of any length, with port 2's overwriting already applied.
        rows: every row's contribution.
        added: what enters every row's time embedding, by the same names.
        what: what each row is, for map edits; by default a sample of its own.
        sets: by conditioner, rows that belong together.
    """
    context, padded = _of_one_length(contexts)
    for entries in rows:
        for entry in entries:
            if not isinstance(entry, _KNOWN):
                raise refused(entry, "contribution", "is not an entry of one of the six ports")

    def groups(
        kind: type[E], state: Callable[[E], Tensor], key: Callable[[E], Hashable]
    ) -> tuple[Group[E], ...]:
        return tuple(_group(kind, rows, state, key, context.device))

    return Conditions(
        context,
        padded,
        {name: torch.stack([row[name] for row in added]) for name in added[0]},
        what or MapRows(tuple(range(len(rows))), sets=tuple((row,) for row in range(len(rows)))),
        sets or {},
        tokens=groups(
            ContextTokens,
            lambda e: e.sources,
            lambda e: (id(e.projections) if e.projections else 0, id(e.region), e.joined),
        ),
        regions=groups(TextRegion, lambda e: e.mask, lambda e: tuple(e.positions.tolist())),
        inserts=groups(BlockInsert, lambda e: e.state, lambda e: id(e.modules)),
        edits=groups(
            MapEdit, lambda e: torch.empty(0), lambda e: (e.origin, id(e.function), e.attention, e.paths)
        ),
        residuals=groups(FeatureResiduals, lambda e: e.state, lambda e: id(e.module)),
        channels=groups(InputChannels, lambda e: e.channels, lambda e: id(e.convolution)),
        deltas=groups(WeightDelta, lambda e: torch.empty(0), lambda e: (e.path, id(e.up), id(e.down))),
    )


def _of_one_length(
    contexts: Sequence[Float[Tensor, "_t d"]],
) -> tuple[Float[Tensor, "r t d"], Bool[Tensor, "r t"] | None]:
    """The rows' texts as long as the longest, and what of them is not to be attended to.

    Shorter ones begin anew: for modules that do not know what is padded, a text twice is as the text once.
    """
    lengths = [len(one) for one in contexts]
    if min(lengths) == max(lengths):
        return torch.stack(list(contexts)), None
    places = torch.arange(max(lengths))
    context = torch.stack([one[places % len(one)] for one in contexts])
    return context, (places >= torch.tensor(lengths)[:, None]).to(context.device)


def _group(
    kind: type[E],
    rows: Sequence[Contribution],
    state: Callable[[E], Tensor],
    key: Callable[[E], Hashable],
    device: torch.device,
) -> Iterable[Group[E]]:
    collected: dict[Hashable, list[tuple[int, E]]] = {}
    for row, entries in enumerate(rows):
        uses: dict[Hashable, int] = {}
        for entry in entries:
            if isinstance(entry, kind) and not (isinstance(entry, WeightDelta) and entry.target != "unet"):
                shared = (key(entry), tuple(state(entry).shape))
                # one row may hold two entries of the same modules: each is a group of its own
                uses[shared] = uses.get(shared, -1) + 1
                collected.setdefault((shared, uses[shared]), []).append((row, entry))
    for members in collected.values():
        numbers = [row for row, _ in members]
        yield Group(
            entry=members[0][1],
            rows=None if numbers == list(range(len(rows))) else torch.tensor(numbers, device=device),
            state=torch.stack([state(entry) for _, entry in members]),
            strength=torch.tensor([entry.strength for _, entry in members], device=device),
        )


_KNOWN = (
    TokenEmbeddings,
    TextStates,
    ContextTokens,
    TextRegion,
    BlockInsert,
    MapEdit,
    FeatureResiduals,
    InputChannels,
    WeightDelta,
)
