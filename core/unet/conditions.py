"""Gathering port entries of all rows of a batch, so that every module runs once on the rows that it concerns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any, TypeVar, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake

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
from .group import E, Factors, Group, Member
from .weight_deltas import is_of_text, with_groups

M = TypeVar("M", bound=nn.Module)

# finite, so that a row whose words are all masked out still has a softmax
MASKED = -1e4


@dataclass(frozen=True, eq=False)
class RegionalText(Entry):
    """Made by the engine: the text states that a region of the image reads in the place of the row's own.

    It has those weight deltas of the text's keys and values that its origin limits to the region.
    """

    states: Float[Tensor, "t d"]


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
        texts: text states of regions.
        tokens, regions, inserts, edits, residuals, channels, deltas: the groups of each port.
    """

    context: Float[Tensor, "r t d"]
    padded: Bool[Tensor, "r t"] | None = None
    added: Mapping[str, Float[Tensor, "r ..."]] = field(default_factory=dict)
    rows: MapRows = field(default_factory=MapRows)
    sets: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    texts: tuple[Group[RegionalText], ...] = ()
    tokens: tuple[Group[ContextTokens], ...] = ()
    regions: tuple[Group[TextRegion], ...] = ()
    inserts: tuple[Group[BlockInsert], ...] = ()
    edits: tuple[Group[MapEdit], ...] = ()
    residuals: tuple[Group[FeatureResiduals], ...] = ()
    channels: tuple[Group[InputChannels], ...] = ()
    deltas: tuple[Group[WeightDelta], ...] = ()
    _regions: dict[Grid, Regions] = field(default_factory=dict, repr=False)
    _keys_values: dict[tuple[str, int, int], Segments] = field(default_factory=dict, repr=False)
    _segments: dict[tuple[str, int, int], Segments] = field(default_factory=dict, repr=False)
    _edits: dict[tuple[AttentionKind, str], MapEdits | None] = field(default_factory=dict, repr=False)
    _scaled: dict[Hashable, Conditions] = field(default_factory=dict, repr=False)
    _models: dict[int, nn.Module] = field(default_factory=dict, repr=False)

    def scaled(self, factors: Sequence[Factors]) -> Conditions:
        """The same rows at other strengths; the keys and values are those that were made already.

        Args:
            factors: of the entries' own strengths, for each row.
        """
        key = tuple(tuple(sorted(one.items())) for one in factors)
        if all(factor == 1.0 for row in factors for factor in row.values()):
            return self
        if key not in self._scaled:
            # of a schedule's strengths each is seen once, in order; a guidance's come back, and are few
            while len(self._scaled) >= 4:
                del self._scaled[next(iter(self._scaled))]
            self._scaled[key] = self._at(factors)
        return self._scaled[key]

    def _at(self, factors: Sequence[Factors]) -> Conditions:
        def groups(port: Iterable[Group[E]], keep: bool = False) -> tuple[Group[E], ...]:
            scaled = (group.scaled(factors, keep) for group in port)
            return tuple(group for group in scaled if group is not None)

        other = replace(
            self,
            tokens=groups(self.tokens, keep=True),
            regions=groups(self.regions),
            inserts=groups(self.inserts),
            edits=groups(self.edits),
            residuals=groups(self.residuals),
            channels=groups(self.channels),
            deltas=groups(self.deltas),
            _regions={},
            _segments={},
            _edits={},
            _scaled={},
            _models={},
        )
        # weight deltas of the text's keys and values change them, so those are made anew
        if any(is_of_text(group.entry.path) for group in self.deltas):
            return replace(other, _keys_values={})
        if self.started:  # as a compiled form does not make them
            for path, *grid in self._keys_values:
                other.segments_at(path, (grid[0], grid[1]), _never)
                other.regions_at((grid[0], grid[1]))
        return other

    def over(self, model: M) -> M:
        """The model with the weight deltas, which is made once."""
        key = id(model)
        if key not in self._models:
            self._models[key] = with_groups(model, self.deltas)
        return cast(M, self._models[key])

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
                if (mask := group.mask_at(grid, kept)) is not None:
                    kept = torch.lerp(torch.ones_like(kept), kept, mask)
                kept = 1.0 - group.column(kept) + group.column(kept) * kept
                logarithm = rearrange(kept.clamp_min(0).log().clamp_min(MASKED), "r h w -> r (h w)")
                space.append(
                    group.put(self.context.new_zeros(rows, grid[0] * grid[1]), logarithm.to(self.context))
                )
                member = self.context.new_zeros(tokens)
                member[group.entry.positions] = 1.0
                which.append(member.repeat(1 + len(self.texts)).expand(rows, -1))
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

        Args:
            path: the transformer block's.
            grid: the feature map's size.
            make: gives those of the text, of `texts`, and of those of `tokens` that take part, without weights.
        """
        key = (path, *grid)
        if key in self._segments:
            return self._segments[key]
        segments = self._keys_values[key] if key in self._keys_values else make()
        weighted = self._weighted(segments, path, grid)
        differentiable = segments.key.requires_grad or segments.value.requires_grad
        if not differentiable and not torch.compiler.is_compiling():
            self._keys_values[key], self._segments[key] = segments, weighted
        return weighted

    def _weighted(self, segments: Segments, path: str, grid: Grid) -> Segments:
        """With the weights that strengths and regions give them."""
        tokens = [group for group in self.tokens if takes_part(group.entry, path)]
        if not self.texts:
            if not tokens:
                return segments
            # what a training makes has no members, and its strengths are not looked at
            if all(group.members and not any(one.strength for one in group.members) for group in tokens):
                return segments.only_first()
        weights = self._text_weights(grid)
        texts = list(range(len(weights)))  # the text, and what stands in its place
        for group in tokens:
            weight = self._weight(group, grid)
            if group.entry.joined == "instead":
                for number in texts:
                    before = weights[number]
                    weights[number] = 1.0 - weight if before is None else before * (1.0 - weight)
                texts.append(len(weights))
            weights.append(weight)
        return segments.weighing(weights)

    def _text_weights(self, grid: Grid) -> list[Float[Tensor, "r n"] | None]:
        """Of the row's text and of each region's; where regions lie over each other they have equal shares."""
        if not self.texts:
            return [None]
        weights = torch.stack(
            [self._weight(group, grid).expand(-1, grid[0] * grid[1]) for group in self.texts]
        )
        total = weights.sum(0)
        return [(1.0 - total).clamp_min(0.0), *(weights / total.clamp_min(1.0))]

    def _weight(self, group: Group[Any], grid: Grid) -> Float[Tensor, "r _n"]:
        """Strengths times regions of a group at every position, and 0 for the rows that are not in it."""
        weight = rearrange(group.strength.to(_wide(self.context)), "r -> r 1")
        if (mask := group.mask_at(grid, weight)) is not None:
            weight = weight * rearrange(mask, "r h w -> r (h w)")
        return group.put(weight.new_zeros(len(self.context), weight.shape[1]), weight)


def takes_part(tokens: ContextTokens, path: str) -> bool:
    """Whether extra context tokens are a segment in a transformer block; shared ones are in the context already."""
    return tokens.joined != "shared" and (not tokens.projections or path in tokens.projections)


def _never() -> Segments:
    raise AssertionError("keys and values are there")


def _wide(tensor: Tensor) -> torch.dtype:
    """At least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def gather(
    contexts: Sequence[Float[Tensor, "_t d"]],
    rows: Sequence[Contribution],
    added: Sequence[Mapping[str, Float[Tensor, "..."]]] = ({},),
    what: MapRows | None = None,
    sets: Mapping[str, tuple[tuple[int, ...], ...]] | None = None,
) -> Conditions:
    """Group the contributions of all rows by port and module.

    Entries whose modules, functions and tensors are the same objects are one group, whatever tuples and mappings they
    come in.

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
        return tuple(_group(kind, rows, state, key, context))

    return Conditions(
        context,
        padded,
        {name: torch.stack([row[name] for row in added]) for name in added[0]},
        what or MapRows(tuple(range(len(rows))), sets=tuple((row,) for row in range(len(rows)))),
        sets or {},
        texts=groups(RegionalText, lambda e: _repeated(e.states, context.shape[1]), lambda e: e.origin),
        tokens=groups(ContextTokens, lambda e: e.sources, lambda e: (_modules(e.projections), e.joined)),
        regions=groups(TextRegion, lambda e: e.mask, lambda e: tuple(e.positions.tolist())),
        inserts=groups(BlockInsert, lambda e: e.state, lambda e: _modules(e.modules)),
        edits=groups(
            MapEdit, lambda e: torch.empty(0), lambda e: (e.origin, _same(e.function), e.attention, e.paths)
        ),
        residuals=groups(FeatureResiduals, lambda e: e.state, lambda e: _same(e.module)),
        channels=groups(InputChannels, lambda e: e.channels, lambda e: _same(e.convolution)),
        deltas=groups(
            WeightDelta, lambda e: torch.empty(0), lambda e: (e.path, _tensor(e.up), _tensor(e.down))
        ),
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
    context = torch.stack([_repeated(one, max(lengths)) for one in contexts])
    return context, (places >= torch.tensor(lengths)[:, None]).to(context.device)


def _repeated(states: Float[Tensor, "_t d"], length: int) -> Float[Tensor, "t d"]:
    return states if len(states) == length else states[torch.arange(length) % len(states)]


def _same(one: Any) -> Hashable:
    """Equal for one object however it was reached: the bound methods of an object are made anew each time."""
    if isinstance(one, MethodType):
        return id(one.__self__), id(one.__func__)
    return tuple(map(_same, one)) if isinstance(one, tuple) else id(one)


def _modules(by_path: Mapping[str, Any]) -> Hashable:
    return tuple((path, _same(by_path[path])) for path in sorted(by_path))


def _tensor(tensor: Tensor | None) -> Hashable:
    """Equal for tensors that are the same numbers in memory."""
    if tensor is None:
        return None
    here = tensor.data_ptr() if tensor.device.type != "meta" and not is_fake(tensor) else 0
    return (here, tuple(tensor.shape), tensor.stride(), tensor.dtype) if here else id(tensor)


def _group(
    kind: type[E],
    rows: Sequence[Contribution],
    state: Callable[[E], Tensor],
    key: Callable[[E], Hashable],
    context: Tensor,
) -> Iterable[Group[E]]:
    collected: dict[Hashable, list[tuple[int, E]]] = {}
    for row, entries in enumerate(rows):
        uses: dict[Hashable, int] = {}
        for entry in entries:
            if isinstance(entry, kind) and not (isinstance(entry, WeightDelta) and entry.target != "unet"):
                mask = None if entry.region is None else (tuple(entry.region.shape), entry.resize)
                shared = (key(entry), tuple(state(entry).shape), mask)
                # one row may hold two entries of the same modules: each is a group of its own
                uses[shared] = uses.get(shared, -1) + 1
                collected.setdefault((shared, uses[shared]), []).append((row, entry))
    for members in collected.values():
        numbers = [row for row, _ in members]
        masks = [entry.region for _, entry in members if entry.region is not None]
        yield Group(
            entry=members[0][1],
            rows=None if numbers == list(range(len(rows))) else torch.tensor(numbers, device=context.device),
            state=torch.stack([state(entry) for _, entry in members]),
            strength=torch.tensor(
                [entry.strength for _, entry in members], dtype=_wide(context), device=context.device
            ),
            mask=torch.stack(masks).to(context.device) if masks else None,
            members=tuple(Member(row, entry.strength, entry.origin) for row, entry in members),
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
    RegionalText,
)
