"""Contexts: how extra tokens join, texts of different lengths in one batch, and keys and values of two sequences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import weft
from weft.core.api.attention_maps import Look, Site
from weft.core.api.ports import ContextTokens, Contribution
from weft.core.unet.attention import cross_attention
from weft.core.unet.conditions import gather
from weft.core.unet.shared_tokens import with_shared
from weft.testing import random_unet

PATH = "down_blocks.0.attentions.0.transformer_blocks.0"
GRID = (4, 6)
UNET = random_unet().double()
LAYER = UNET.get_submodule(f"{PATH}.attn2")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


HIDDEN, TEXT, EXTRA, VALUES = (
    normal(24, 32),
    normal(7, 32, seed=1),
    normal(5, 32, seed=2),
    normal(5, 32, seed=3),
)
REGION = torch.rand(4, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def attended(key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Before the output projection; the bias is added to the scores, positions by tokens."""
    q, k, v = (
        one.unflatten(-1, (LAYER.heads, -1)).transpose(0, 1)
        for one in (LAYER.to_q(HIDDEN), LAYER.to_k(key), LAYER.to_v(value))
    )
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return ((scores if bias is None else scores + bias).softmax(-1) @ v).transpose(0, 1).flatten(1)


def ours(*rows: tuple[Tensor, Contribution]) -> Tensor:
    longer = [(*with_shared(text, entries), entries) for text, entries in rows]
    conditions = gather([text for text, _, _ in longer], [(*entries, *more) for _, more, entries in longer])
    hidden = HIDDEN.expand(len(rows), -1, -1)
    return cross_attention(LAYER, hidden, Site(PATH, GRID), conditions, Look())[0]


def out(*parts: Tensor) -> Tensor:
    return LAYER.to_out[0](sum(parts))


@torch.no_grad()
@pytest.mark.parametrize("region", [None, REGION])
@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("values", [None, VALUES])
def test_tokens_in_place_of_the_text(region, strength, values) -> None:
    """Replaced, mixed, in a region, with values of another sequence; the row beside it, without them, is as it was."""
    entry = ContextTokens(EXTRA, region=region, joined="instead", values=values, strength=strength)
    weight = strength * (torch.ones(24, 1) if region is None else region.reshape(-1, 1))
    text, extra = attended(TEXT, TEXT), attended(EXTRA, EXTRA if values is None else values)
    expected = out((1 - weight) * text, weight * extra)
    both = ours((TEXT, (entry,)), (TEXT, ()))
    torch.testing.assert_close(both[0], expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(both[1], out(text), rtol=0, atol=1e-12)


@torch.no_grad()
def test_of_two_the_later_is_in_front_and_added_tokens_stay() -> None:
    first = ContextTokens(EXTRA, joined="instead", strength=0.25)
    second = ContextTokens(VALUES, joined="instead", strength=0.5)
    added = ContextTokens(EXTRA, strength=0.5)
    text, one, two = attended(TEXT, TEXT), attended(EXTRA, EXTRA), attended(VALUES, VALUES)
    expected = out(0.375 * text, 0.125 * one, 0.5 * one, 0.5 * two)
    torch.testing.assert_close(ours((TEXT, (first, added, second)))[0], expected, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("region", [None, REGION])
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_tokens_that_share_the_texts_softmax(region, strength) -> None:
    entry = ContextTokens(EXTRA, region=region, joined="shared", strength=strength)
    weight = strength * (torch.ones(24, 1) if region is None else region.reshape(-1, 1))
    bias = torch.cat([torch.zeros(24, 7), weight.log().expand(-1, 5)], dim=1)
    whole = torch.cat([TEXT, EXTRA])
    both = ours((TEXT, (entry,)), (TEXT, ()))
    torch.testing.assert_close(both[0], out(attended(whole, whole, bias)), rtol=0, atol=1e-7)
    torch.testing.assert_close(both[1], out(attended(TEXT, TEXT)), rtol=0, atol=1e-12)


@torch.no_grad()
def test_texts_of_different_lengths_are_one_batch() -> None:
    """Each row is as it is alone, whatever is beside it."""
    longer = normal(16, 32, seed=6)
    rows = ours((longer, ()), (TEXT, ()), (EXTRA, ()))
    for row, text in zip(rows, (longer, TEXT, EXTRA), strict=True):
        torch.testing.assert_close(row, out(attended(text, text)), rtol=0, atol=1e-12)


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(weft.UserError, match="joined 'shared'"):
        ContextTokens(EXTRA, joined="shared", values=VALUES)
    with pytest.raises(weft.UserError, match=r"'values': expected the shape of the tokens, \(5, 32\)"):
        replace(ContextTokens(EXTRA), values=VALUES[:4])
