"""Self- and cross-attention over diffusers' `Attention` modules, with the text-state and block ports in plain sight.

Without contributions the arithmetic is that of diffusers' `AttnProcessor2_0`, bit for bit.
"""

from __future__ import annotations

from functools import partial

from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ...kernels.cross_attention import Segment, Segments
from ...kernels.cross_attention import cross_attention as attend
from ..api.attention_maps import AttentionKind, Look, Site
from ..api.guidance import Step
from ..api.map_edits import MapCall
from .conditions import Conditions, MapEdits, takes_part
from .entry_calls import called, fitting, refused
from .weight_deltas import reading


def self_attention(layer: Attention, hidden: Float[Tensor, "r n c"]) -> Float[Tensor, "r n c"]:
    """Plain self-attention with the layer's projections."""
    return _out(layer, _attended(*_projected(layer, hidden)))


def block_self_attention(
    layer: Attention,
    hidden: Float[Tensor, "q n c"],
    site: Site,
    conditions: Conditions,
    look: Look,
    step: Step | None,
) -> tuple[Float[Tensor, "r n c"], Float[Tensor, "s heads n n"] | None]:
    """A transformer block's self-attention, with map edits; rows without an edit are those of plain self-attention.

    Args:
        layer: diffusers' attention module, for its projections.
        hidden: of every row, or of the first when the rows after them are equal to them so far; so is the result,
            where neither an edit nor a capture tells the rows apart.
        site: where the layer is.
        conditions: of the rows.
        look: whether, and of which rows, the probabilities are wanted; before any edit.
        step: where the sampler is.
    """
    edits, wanted = conditions.edits_at("self", site.path), site.path in look.self_paths
    if edits is None and not wanted:
        return self_attention(layer, hidden), None
    query, key, value = _projected(layer, repeated(hidden, len(conditions.context) // len(hidden)))
    probabilities = _probabilities(query[look.self_rows], key[look.self_rows], None) if wanted else None
    if edits is None:
        return _out(layer, _attended(query, key, value)), probabilities
    rows = slice(None) if edits.rows is None else edits.rows
    edited = _edited(_probabilities(query[rows], key[rows], None), edits, site, "self", step) @ value[rows]
    edited = edited.transpose(1, 2)
    if edits.rows is None:
        return _out(layer, edited), probabilities
    return _out(layer, _attended(query, key, value).index_copy(0, edits.rows, edited)), probabilities


def cross_attention(
    layer: Attention,
    hidden: Float[Tensor, "q n c"],
    site: Site,
    conditions: Conditions,
    look: Look,
    step: Step | None = None,
) -> tuple[Float[Tensor, "r n c"], Float[Tensor, "s heads n t"] | None]:
    """Attention to the text states, with regions, map edits and extra context tokens.

    Args:
        layer: diffusers' attention module, for its projections.
        hidden: of every row, or of the first when the rows after them are equal to them so far: ``r = copies * q``.
        site: where the layer is.
        conditions: of the rows.
        look: whether, and of which rows, the text's probabilities are wanted; before any edit.
        step: where the sampler is.
    """
    query = _heads(layer, layer.to_q(hidden))
    query = repeated(query, len(conditions.context) // len(query))
    segments = conditions.segments_at(site.path, site.grid, lambda: _segments(layer, site, conditions))
    regions = conditions.regions_at(site.grid)
    wanted = look.wants(site.path)
    edits = conditions.edits_at("cross", site.path)
    if edits is None:
        # the sampler looks for numbers that are not finite, once a step
        attended, probabilities = attend(
            query, segments, regions, rows=look.rows, capture=wanted, finite=True
        )
        return _out(layer, attended), probabilities

    text = segments.lengths[0]
    heads_first = [one.transpose(1, 2) for one in (query, segments.key[:, :text], segments.value[:, :text])]
    probabilities = _probabilities(
        heads_first[0], heads_first[1], None if regions is None else regions.dense(0, text)
    )
    rows = slice(None) if edits.rows is None else edits.rows
    changed = _edited(probabilities[rows], edits, site, "cross", step)
    changed = changed if edits.rows is None else probabilities.index_copy(0, edits.rows, changed)
    attended = (changed @ heads_first[2]).transpose(1, 2)
    if segments.weighted[0] and segments.weights is not None:
        attended = attended * segments.weights[0].to(attended)[:, :, None, None]
    if len(segments.lengths) > 1:
        others = None if regions is None else regions.after(text)
        attended = attended + attend(query, segments.without_first(), others, finite=True)[0]
    return _out(layer, attended), probabilities[look.rows] if wanted else None


def repeated(tensor: Tensor, copies: int) -> Tensor:
    """The rows, as many times as there are copies, one copy after the other."""
    return tensor if copies == 1 else tensor.repeat(copies, *[1] * (tensor.ndim - 1))


def _segments(layer: Attention, site: Site, conditions: Conditions) -> Segments:
    """The keys and values of the text, of the regions' texts, and of the extra context tokens that take part here."""
    context = conditions.context
    parts = [Segment(*_keys_and_values(layer, context))]
    width = parts[0].key.shape[-2] * parts[0].key.shape[-1]
    for text in conditions.texts:
        states = text.put(context, text.state.to(context))
        parts.append(Segment(*_keys_and_values(reading(layer, text.entry.origin), states)))
    for group in conditions.tokens:
        if not takes_part(group.entry, site.path):
            continue
        sources = group.state.to(context)  # r k m d
        if group.entry.projections:
            (to_k, to_v), place = group.entry.projections[site.path], f"projections of '{site.path}'"
            key = called(group.entry, place, partial(to_k, sources[:, 0]))
            value = called(group.entry, place, partial(to_v, sources[:, -1]))
            like = sources.new_empty(*sources.shape[:1], sources.shape[2], width)
            key, value = (fitting(group.entry, place, one, like) for one in (key, value))
            # rows without these tokens have weight 0
            empty = key.new_zeros(len(context), *key.shape[1:])
            parts.append(
                Segment(_heads(layer, group.put(empty, key)), _heads(layer, group.put(empty, value)))
            )
        else:
            if sources.shape[-1] != context.shape[-1]:
                widths = f"expected {context.shape[-1]} channels, as the text's, found {sources.shape[-1]}"
                raise refused(group.entry, "context tokens without projections", widths)
            # weight deltas on the text's projections know the rows of the whole batch, so project all of it
            blank = sources.new_zeros(len(context), *sources.shape[1:])
            sources = group.put(blank, sources)
            parts.append(
                Segment(_heads(layer, layer.to_k(sources[:, 0])), _heads(layer, layer.to_v(sources[:, -1])))
            )
    return Segments.of(parts)


def _keys_and_values(
    layer: Attention, states: Float[Tensor, "r t d"]
) -> tuple[Float[Tensor, "r t heads c"], Float[Tensor, "r t heads c"]]:
    return _heads(layer, layer.to_k(states)), _heads(layer, layer.to_v(states))


def _edited(
    probabilities: Float[Tensor, "r heads n t"],
    edits: MapEdits,
    site: Site,
    attention: AttentionKind,
    step: Step | None,
) -> Float[Tensor, "r heads n t"]:
    for group, rows in zip(edits.groups, edits.of, strict=True):
        before, place = group.of(probabilities), f"edit of {attention}-attention in '{site.path}'"
        call = MapCall(site, attention, rows, step)
        after = called(group.entry, place, partial(group.entry.function, before, call))
        change = fitting(group.entry, place, after, before) - before
        factor = group.column(change)
        if (mask := group.mask_at(site.grid, change)) is not None:
            factor = factor * rearrange(mask, "r h w -> r 1 (h w) 1")
        probabilities = group.plus(probabilities, factor * change)
    return probabilities


def _projected(layer: Attention, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, heads first."""
    return (
        _heads(layer, layer.to_q(hidden)).transpose(1, 2),
        _heads(layer, layer.to_k(hidden)).transpose(1, 2),
        _heads(layer, layer.to_v(hidden)).transpose(1, 2),
    )


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Float[Tensor, "r n heads d"]:
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None) -> Float[Tensor, "r heads n t"]:
    scores: Tensor = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1)


def _heads(layer: Attention, hidden: Float[Tensor, "r n c"]) -> Float[Tensor, "r n heads d"]:
    return rearrange(hidden, "r n (heads d) -> r n heads d", heads=layer.heads)


def _out(layer: Attention, attended: Float[Tensor, "r n heads d"]) -> Float[Tensor, "r n c"]:
    project, dropout = layer.to_out
    hidden: Tensor = dropout(project(rearrange(attended, "r n heads d -> r n (heads d)")))
    return hidden
