"""Modules by path, low-rank deltas that start at nothing and follow a file's shapes, and states with gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import weft
from weft.core.api.low_rank import ByPath, LowRank, layers
from weft.core.checkpoints.tensors import fill_module
from weft.core.unet.weight_deltas import apply_deltas
from weft.testing import random_pipeline, random_unet

PATHS = (
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "down_blocks.0.resnets.0.conv1",
    "conv_in",
)


def test_modules_are_named_by_their_paths() -> None:
    given = {"a.0.b": nn.Linear(2, 3), "a.1": nn.Linear(3, 4)}
    filed = ByPath(given)
    assert list(filed.state_dict()) == ["a.0.b.weight", "a.0.b.bias", "a.1.weight", "a.1.bias"]
    assert filed.by_path() == given


def test_layers_are_the_linear_and_convolution_ones_that_a_pattern_finds() -> None:
    unet = random_unet()
    found = layers(unet, r"attn2\.to_[kv]$")
    assert len(found) == 2 * sum(name.endswith("attn2") for name, _ in unet.named_modules())
    assert all(isinstance(unet.get_submodule(path), nn.Linear | nn.Conv2d) for path in layers(unet))
    assert {"conv_in", "time_embedding.linear_1"} <= set(layers(unet))


def test_deltas_start_at_nothing_and_take_gradients() -> None:
    unet = random_unet().requires_grad_(False)
    deltas = LowRank(unet, PATHS, 8)
    assert [tuple(delta.down.shape) for delta in deltas.deltas()] == [(8, 32), (8, 32, 3, 3), (4, 4, 3, 3)]
    sample, states = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 32)
    plain = unet(sample, 5, states)[0]
    changed = apply_deltas(unet, deltas.deltas())(sample, 5, states)[0]
    assert torch.equal(changed, plain)
    changed.square().sum().backward()
    assert all(pair.lora_B.grad.any() for pair in deltas.by_path().values())


def test_ranks_and_layers_follow_the_tensors() -> None:
    unet = random_unet()
    made = LowRank(unet, PATHS, dict(zip(PATHS, (3, 5, 2), strict=True)))
    tensors = {f"unet.{name}": tensor for name, tensor in made.state_dict().items()}
    read = LowRank.like(unet, tensors, "unet.")
    fill_module(read, made.state_dict(), "weights", torch.float32)
    assert [delta.path for delta in read.deltas()] == list(PATHS)
    for ours, theirs in zip(read.deltas(), made.deltas(), strict=True):
        assert torch.equal(ours.up, theirs.up)
        assert torch.equal(ours.down, theirs.down)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            f"{PATHS[0]}.lora_B",
            (7, 4),
            rf"tensor '{PATHS[0]}.lora_B': expected shape \(32, 4\), found \(7, 4\)",
        ),
        (
            f"{PATHS[0]}.lora_A",
            (4, 7),
            rf"tensor '{PATHS[0]}.lora_A': expected shape \(4, 32\), found \(4, 7\)",
        ),
        (
            "down_blocks.9.conv.lora_A",
            (4, 7),
            r"expected no other tensors, found 'down_blocks.9.conv.lora_A'",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(name, shape, message) -> None:
    unet = random_unet()
    tensors = LowRank(unet, PATHS, 4).state_dict() | {name: torch.zeros(shape)}
    with pytest.raises(weft.UserError, match=message):
        fill_module(LowRank.like(unet, tensors), tensors, "weights", torch.float32)


def test_text_states_of_a_batch_pass_gradients_to_what_is_written() -> None:
    text = random_pipeline().text
    ids = torch.tensor([text.tokens(prompt).ids for prompt in ("a toy on grass", "two boats")])
    vector = torch.zeros(32, requires_grad=True)

    def write(table: torch.Tensor) -> torch.Tensor:
        written = table.clone()
        written[0, 2] = vector
        return written

    states = text.states(ids, write)
    plain = text.states(ids)
    assert torch.equal(states[1], plain[1])
    assert torch.equal(states[0, :2], plain[0, :2])
    assert (states[0, 2:] != plain[0, 2:]).any(dim=-1).all()
    states[0, 5, 0].backward()
    assert vector.grad.any()
    assert not text.model.get_input_embeddings()._forward_hooks


def test_an_edit_that_fails_leaves_no_hook() -> None:
    text = random_pipeline().text

    def fail(table: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        text.states(torch.tensor([text.tokens("a toy").ids]), fail)
    assert not text.model.get_input_embeddings()._forward_hooks
