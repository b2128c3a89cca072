"""What a plugin gives that cannot be used is an error that names it, also within the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import weft
from weft.plugin import (
    BlockInsert,
    ContextTokens,
    FeatureResiduals,
    Fixed,
    Guidance,
    InputChannels,
    LatentEdit,
    MapEdit,
    Residuals,
    TextRegion,
    TextStates,
    TokenEmbeddings,
    WeightDelta,
)
from weft.testing import random_pipeline

MIDDLE = "mid_block.attentions.0.transformer_blocks.0"
WIDTH = 32


def refuse(*arguments: Any) -> Any:
    raise KeyError("missing")


class Refusing(nn.Module):
    """A projection that raises."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        raise KeyError("missing")


def residuals(**parts: Any) -> Callable[..., Residuals]:
    return lambda latents, timestep, context, state: Residuals(**parts)


STATE = torch.zeros(1)
BROKEN: dict[str, tuple[Any, str]] = {
    "prepare gives a tuple": (lambda: (), r"prepare: expected a Prepared, .* found tuple"),
    "prepare gives None": (lambda: None, r"prepare: expected a Prepared, .* found NoneType"),
    "no entry": (lambda: Fixed((3,)), r"present: expected port entries, found int"),
    "a word beyond": (
        lambda: Fixed((TokenEmbeddings(torch.tensor([99]), torch.zeros(1, WIDTH)),)),
        r"present: a TokenEmbeddings is at token 99, and the prompt has 77 tokens",
    ),
    "a state beyond": (
        lambda: Fixed((TextStates(torch.tensor([2, 77]), torch.zeros(2, WIDTH)),)),
        r"present: a TextStates is at token 77",
    ),
    "a region before": (
        lambda: Fixed((TextRegion(torch.tensor([-1]), torch.zeros(32, 32)),)),
        r"present: a TextRegion is at token -1",
    ),
    "states of another width": (
        lambda: Fixed((TextStates(torch.tensor([2]), torch.zeros(1, 7)),)),
        r"text states: RuntimeError",
    ),
    "tokens of another width": (
        lambda: Fixed((ContextTokens(torch.zeros(4, 7)),)),
        r"context tokens without projections: expected 32 channels, as the text's, found 7",
    ),
    "tokens of an unknown block": (
        lambda: Fixed(
            (ContextTokens(torch.zeros(4, WIDTH), {"mid_block.0": (nn.Identity(), nn.Identity())}),)
        ),
        r"ContextTokens: the UNet has no transformer block 'mid_block.0'",
    ),
    "projections to another width": (
        lambda: Fixed(
            (ContextTokens(torch.zeros(4, WIDTH), {MIDDLE: (nn.Identity(), nn.Linear(WIDTH, 5))}),)
        ),
        r"projections of 'mid_block.*': expected shape \(1, 4, \d+\) on cpu, found shape \(1, 4, \d+\)",
    ),
    "a projection that raises": (
        lambda: Fixed((ContextTokens(torch.zeros(4, WIDTH), {MIDDLE: (Refusing(), Refusing())}),)),
        r"projections of 'mid_block.*': KeyError: 'missing'",
    ),
    "an insert that raises": (
        lambda: Fixed((BlockInsert({MIDDLE: refuse}, STATE),)),
        r"insert in 'mid_block.*': KeyError: 'missing'",
    ),
    "an insert of another shape": (
        lambda: Fixed((BlockInsert({MIDDLE: lambda hidden, state, strength, grid: hidden[:, :1]}, STATE),)),
        r"insert in 'mid_block.*': expected shape \(1, 4, \d+\) on cpu, found shape \(1, 1, \d+\) on cpu",
    ),
    "an insert of an unknown block": (
        lambda: Fixed((BlockInsert({MIDDLE.replace("blocks.0", "blocks.1"): refuse}, STATE),)),
        r"BlockInsert: the UNet has no transformer block '.*blocks.1'. Did you mean 'mid_block.*blocks.0'\?",
    ),
    "an edit that raises": (
        lambda: Fixed((MapEdit(refuse),)),
        r"edit of cross-attention in '.*': KeyError: 'missing'",
    ),
    "an edit of another shape": (
        lambda: Fixed((MapEdit(lambda maps, call: maps.mean(dim=1), "self"),)),
        r"edit of self-attention in '.*': expected shape",
    ),
    "an edit that gives None": (
        lambda: Fixed((MapEdit(lambda maps, call: None),)),  # type: ignore[return-value]
        r"edit of cross-attention in '.*': expected a tensor, found NoneType",
    ),
    "an edit of an unknown block": (
        lambda: Fixed((MapEdit(refuse, paths=frozenset({"middle"})),)),
        r"MapEdit: the UNet has no transformer block 'middle'",
    ),
    "residuals that raise": (
        lambda: Fixed((FeatureResiduals(refuse, STATE),)),
        r"feature residuals: KeyError",
    ),
    "residuals that are none": (
        lambda: Fixed((FeatureResiduals(lambda *given: (STATE,), STATE),)),
        r"feature residuals: expected Residuals, found tuple",
    ),
    "too many blocks": (
        lambda: Fixed((FeatureResiduals(residuals(blocks=(torch.zeros(1, 1, 1, 1),) * 9), STATE),)),
        r"feature residuals: expected at most \d residuals of down blocks, found 9",
    ),
    "too few skips": (
        lambda: Fixed((FeatureResiduals(residuals(skips=(torch.zeros(1, 1, 1, 1),)), STATE),)),
        r"feature residuals: expected \d residuals of skip connections, found 1",
    ),
    "a middle of another shape": (
        lambda: Fixed((FeatureResiduals(residuals(middle=torch.zeros(1, 3, 2, 2)), STATE),)),
        r"residual of the middle block: expected shape \(1, \d+, 2, 2\) on cpu, found shape \(1, 3, 2, 2\)",
    ),
    "channels of another width": (
        lambda: Fixed((InputChannels(nn.Conv2d(1, 3, 3, padding=1), torch.zeros(1, 8, 8)),)),
        r"convolution of input channels: expected shape",
    ),
    "channels that do not suit": (
        lambda: Fixed((InputChannels(nn.Conv2d(2, 3, 3), torch.zeros(1, 8, 8)),)),
        r"convolution of input channels: RuntimeError",
    ),
    "a delta of no layer": (
        lambda: Fixed((WeightDelta("no.such.layer", torch.zeros(1, 1)),)),
        r"weight delta of 'no.such.layer': the unet has no such layer",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_entry_that_cannot_be_used_names_its_conditioner(what: str) -> None:
    make, message = BROKEN[what]

    @weft.record
    class Broken(weft.Conditioner):
        name: ClassVar[str] = "broken"

        def prepare(self, scene, model):
            return make()

    with pytest.raises(weft.PluginError, match=f"plugin 'broken', {message}"), torch.no_grad():
        random_pipeline().generate(weft.Scene("a toy"), [Broken()], (), steps=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "expected a tensor, found int"),
        (None, "expected a tensor, found NoneType"),
        (np.zeros((1, 4, 8, 8)), "expected a tensor, found ndarray"),
        (torch.zeros(1, 4, 8, 8, device="meta"), r"expected shape \(1, 4, 8, 8\) on cpu, found .* on meta"),
        (torch.zeros(1, 4, 8), "expected shape"),
    ],
    ids=["int", "None", "numpy", "meta", "shape"],
)
@pytest.mark.parametrize("method", ["before", "edit"])
def test_latents_that_are_none_name_the_strategy(given: Any, message: str, method: str) -> None:
    @weft.record
    class Broken(LatentEdit):
        name: ClassVar[str] = "broken"
        neutral: ClassVar[Mapping[str, Any]] = {}

    setattr(Broken, method, lambda self, latents, step: given)
    with pytest.raises(weft.PluginError, match=f"plugin 'broken', {method} at step 0: {message}"):
        random_pipeline().generate(weft.Scene("a toy"), (), [Broken()], steps=1)


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("rewrite", None, "rewrite at step 0: expected a LinearForm, found NoneType"),
        ("reads", None, "reads at step 0: TypeError"),
        ("begin", 3, "begin: expected a strategy, found int"),
        ("combine", 3.0, "combine at step 0: expected a tensor, found float"),
    ],
)
def test_what_a_strategy_gives_that_is_something_else(method: str, given: Any, message: str) -> None:
    @weft.record
    class Broken(Guidance):
        name: ClassVar[str] = "broken"
        neutral: ClassVar[Mapping[str, Any]] = {}

    setattr(Broken, method, lambda self, *arguments: given)
    with pytest.raises(weft.PluginError, match=f"plugin 'broken', {message}"):
        random_pipeline().generate(weft.Scene("a toy"), (), [Broken()], steps=1)
