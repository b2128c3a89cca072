"""Gated self-attention and Fourier features: diffusers' arithmetic and names, and a strength a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.embeddings import get_fourier_embeds_from_boundingbox

from weft.core.api.ports import BlockInsert
from weft.core.families.blocks import cross_attention_paths
from weft.core.unet.conditions import Conditions
from weft.core.unet.forward import UNetForward
from weft.core.unet.group import Group
from weft.plugins.shared.gated_attention import (
    GatedAttentions,
    GatedSelfAttention,
    centres,
    ff_ratio_of,
    fourier_features,
    has_positions,
)
from weft.testing import random_unet


def opened(ff_ratio: float = 4.0) -> GatedSelfAttention:
    torch.manual_seed(0)
    module = GatedSelfAttention(32, 24, 4, ff_ratio).eval().requires_grad_(False)
    module.alpha_attn.fill_(0.7)
    module.alpha_dense.fill_(-0.4)
    return module


def test_fourier_features_of_boxes_are_those_of_diffusers() -> None:
    boxes = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fourier_features(boxes), get_fourier_embeds_from_boundingbox(8, boxes))
    assert fourier_features(boxes[..., :2]).shape == (3, 5, 32)


def test_fourier_features_by_hand() -> None:
    """Frequency first, then sine and cosine, then the coordinate; the second of two frequencies is 10."""
    got = fourier_features(torch.tensor([0.1, 0.2]), frequencies=2)
    angles = torch.tensor([0.1, 0.2]), torch.tensor([1.0, 2.0])
    expected = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)])
    assert torch.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("strength", [[1.0, 1.0], [1.0, 0.3]])
def test_strength_one_is_diffusers_bit_for_bit(strength) -> None:
    module = opened()
    peer = GatedSelfAttentionDense(32, 24, 4, 8).eval()
    peer.load_state_dict(module.state_dict())
    hidden, tokens = torch.randn(2, 16, 32), torch.randn(2, 5, 24)
    with torch.no_grad():
        assert torch.equal(module(hidden, tokens, torch.tensor(strength), (4, 4))[0], peer(hidden, tokens)[0])


def test_strength_scales_the_whole_residual_of_its_row() -> None:
    module = opened(ff_ratio=0.5)
    hidden, tokens = torch.randn(4, 16, 32), torch.randn(4, 5, 24)
    full = module(hidden, tokens, torch.ones(4), (4, 4)) - hidden
    strength = torch.tensor([0.0, 0.4, 1.0, 2.0])
    changed = module(hidden, tokens, strength, (4, 4))
    assert float(full.abs().min(dim=0).values.max()) > 1e-3
    assert torch.equal(changed[0], hidden[0])
    assert torch.allclose(changed, hidden + strength.view(-1, 1, 1) * full, atol=1e-6)


def test_closed_gates_change_no_bit_of_the_unet() -> None:
    unet = random_unet()
    modules: dict[str, Any] = GatedAttentions(unet, 24, ff_ratio=1.0).by_block()
    assert list(modules) == list(cross_attention_paths(unet))
    state, context = torch.randn(2, 5, 24), torch.randn(2, 77, 32)
    latents, time = torch.randn(2, 4, 8, 8), torch.tensor(500)
    inserts = (Group(BlockInsert(modules, state[0]), None, state, torch.ones(2)),)
    with torch.no_grad():
        plain = UNetForward(unet)(latents, time, Conditions(context))
        same = UNetForward(unet)(latents, time, Conditions(context, inserts=inserts))
        for module in modules.values():
            module.alpha_attn.fill_(1.0)
        opened = UNetForward(unet)(latents, time, Conditions(context, inserts=inserts))
    assert torch.equal(plain, same)
    assert not torch.equal(plain, opened)


def test_opened_modules_change_no_bit_and_learn_at_once() -> None:
    """Unlike those with closed gates, whose attention has no gradient at all."""
    unet = random_unet().requires_grad_(False)
    made = GatedAttentions(unet, 24, ff_ratio=1.0)
    made.open()
    state, context = torch.randn(2, 5, 24), torch.randn(2, 77, 32)
    latents, time = torch.randn(2, 4, 8, 8), torch.tensor(500)
    inserts = (Group(BlockInsert(made.by_block(), state[0]), None, state, torch.ones(2)),)
    plain = UNetForward(unet)(latents, time, Conditions(context))
    same = UNetForward(unet)(latents, time, Conditions(context, inserts=inserts))
    assert torch.equal(plain, same)
    same.square().sum().backward()
    for name, parameter in made.named_parameters():
        if name.endswith("attn.to_out.0.weight"):
            assert parameter.grad.abs().max() > 0


def test_positions_tell_a_module_where_its_hidden_states_are() -> None:
    """Equal hidden states come out equal, except with positions: then those of one column differ by their row alone."""
    torch.manual_seed(0)
    hidden, tokens, one = torch.randn(1, 1, 32).expand(1, 6, 32), torch.randn(1, 5, 24), torch.ones(1)
    for positions in (False, True):
        module = GatedSelfAttention(32, 24, 4, 1.0, positions).eval().requires_grad_(False)
        module.alpha_attn.fill_(1.0)
        out = module(hidden, tokens, one, (2, 3))[0]
        distances = torch.cdist(out, out)[~torch.eye(6, dtype=torch.bool)]
        assert bool((distances > 1e-4).all()) == positions
        assert bool((distances < 1e-4).all()) != positions


def test_the_centres_of_a_feature_map() -> None:
    assert centres((2, 3)).tolist() == [
        pytest.approx(point)
        for point in [[1 / 6, 0.25], [0.5, 0.25], [5 / 6, 0.25], [1 / 6, 0.75], [0.5, 0.75], [5 / 6, 0.75]]
    ]


def test_what_positions_look_at_among_the_tokens() -> None:
    """The softmax of the module's own attention, of which only the tokens' share is kept."""
    module = opened()
    hidden, tokens = torch.randn(2, 16, 32), torch.randn(2, 5, 24)
    found = module.looked_at(hidden, tokens, (4, 4)).exp()
    joined = module.norm1(torch.cat([hidden, module.linear(tokens)], dim=1))
    query, key = module.attn.to_q(joined), module.attn.to_k(joined)
    every = module.attn.get_attention_scores(
        module.attn.head_to_batch_dim(query), module.attn.head_to_batch_dim(key)
    )
    every = every.unflatten(0, (2, 4))[:, :, :16, 16:]
    assert torch.allclose(found, (every / every.sum(-1, keepdim=True)).mean(1), atol=1e-6)


def test_names_are_those_of_a_gated_unet_of_diffusers() -> None:
    gated = random_unet(attention_type="gated", cross_attention_dim=32)
    wanted = {name: t.shape for name, t in gated.state_dict().items() if ".fuser." in name}
    made = GatedAttentions(random_unet(), 32)
    assert {name: t.shape for name, t in made.state_dict().items()} == wanted
    assert not has_positions(wanted)
    assert has_positions(GatedAttentions(random_unet(), 32, positions=True).state_dict())


@pytest.mark.parametrize("ratio", [4.0, 1.0, 0.5])
def test_the_ratio_follows_from_the_tensors(ratio) -> None:
    unet = random_unet()
    tensors = {f"x.{name}": t for name, t in GatedAttentions(unet, 24, ratio).state_dict().items()}
    assert ff_ratio_of(tensors, unet, "x.") == ratio
