"""Self- and cross-attention over diffusers' `Attention` modules, with the text-state and block ports in plain sight.

Without contributions the arithmetic is that of diffusers' `AttnProcessor2_0`, bit for bit.
"""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .conditions import Conditions, resize
from .maps import MapRecorder, Site


def self_attention(layer: Attention, hidden: Float[Tensor, "r n c"]) -> Float[Tensor, "r n c"]:
    """Plain self-attention with the layer's projections."""
    query = _heads(layer, layer.to_q(hidden))
    key, value = _heads(layer, layer.to_k(hidden)), _heads(layer, layer.to_v(hidden))
    return _out(layer, F.scaled_dot_product_attention(query, key, value))


def cross_attention(
    layer: Attention,
    hidden: Float[Tensor, "r n c"],
    site: Site,
    conditions: Conditions,
    maps: MapRecorder | None,
) -> Float[Tensor, "r n c"]:
    """Attention to the text states, with regions, map edits, extra context tokens and map recording."""
    query = _heads(layer, layer.to_q(hidden))
    key = _heads(layer, layer.to_k(conditions.context))
    value = _heads(layer, layer.to_v(conditions.context))
    bias = conditions.bias(site.grid)
    recording = maps is not None and maps.wants(site.path)

    if recording or conditions.edits:
        probabilities = _probabilities(query, key, bias)
    if recording:
        assert maps is not None
        maps.record(site, probabilities)
    if conditions.edits:
        attended = _edited(probabilities, site, conditions) @ value
    else:
        # recorded or not, the output takes the fused path, so that looking at the maps changes no bit of it
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    attended = _with_tokens(layer, query, attended, site, conditions)
    return _out(layer, attended)


def _with_tokens(
    layer: Attention,
    query: Tensor,
    attended: Float[Tensor, "r heads n d"],
    site: Site,
    conditions: Conditions,
) -> Float[Tensor, "r heads n d"]:
    for group in conditions.tokens:
        projections = group.entry.projections
        if projections and site.path not in projections:
            continue
        if projections:
            to_k, to_v = projections[site.path]
            key, value = to_k(group.state.to(query)), to_v(group.state.to(query))
        else:
            # weight deltas on the text's projections know the rows of the whole batch, so project all of it
            blank = group.state.new_zeros(len(query), *group.state.shape[1:])
            state = group.put(blank, group.state).to(query)
            key, value = group.of(layer.to_k(state)), group.of(layer.to_v(state))
        extra = F.scaled_dot_product_attention(group.of(query), _heads(layer, key), _heads(layer, value))
        if group.entry.region is not None:
            extra = extra * rearrange(resize(group.entry.region[None], site.grid), "1 h w -> 1 1 (h w) 1").to(
                extra
            )
        attended = group.add(attended, extra)
    return attended


def _edited(probabilities: Tensor, site: Site, conditions: Conditions) -> Float[Tensor, "r heads n t"]:
    for group in conditions.edits:
        before = group.of(probabilities)
        after = group.entry.function(before, site.path, site.grid)
        probabilities = group.add(probabilities, after - before)
    return probabilities


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None) -> Float[Tensor, "r heads n t"]:
    scores: Tensor = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1)


def _heads(layer: Attention, hidden: Float[Tensor, "r n c"]) -> Float[Tensor, "r heads n d"]:
    return rearrange(hidden, "r n (heads d) -> r heads n d", heads=layer.heads)


def _out(layer: Attention, attended: Float[Tensor, "r heads n d"]) -> Float[Tensor, "r n c"]:
    project, dropout = layer.to_out
    hidden: Tensor = dropout(project(rearrange(attended, "r heads n d -> r n (heads d)")))
    return hidden


def cross_attention_paths(unet: nn.Module) -> dict[str, Attention]:
    """Every cross-attention layer by its transformer block's path, in the order in which the UNet runs them."""
    found = {
        name.removesuffix(".attn2"): layer for name, layer in unet.named_modules() if name.endswith(".attn2")
    }
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    return dict(sorted(found.items(), key=lambda item: order[item[0].split(".", 1)[0]]))
