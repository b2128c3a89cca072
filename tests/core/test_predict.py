"""`Pipeline.predict`: gradients through the sampler's own ports, against finite differences, and in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import weft
from weft.core.load import load
from weft.plugin import (
    Conditioner,
    Contribution,
    ModelView,
    Prepared,
    PromptTokens,
    Scene,
    TextStates,
    TokenEmbeddings,
    WeightDelta,
    record,
)
from weft.testing import random_model

SCENE = weft.Scene("a <cat> on grass")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> weft.Pipeline:
    return load(random_model(tmp_path_factory.mktemp("model")), device="cpu", dtype=torch.float64)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class Trained(Prepared):
    """One trained tensor, through one port."""

    entries: Callable[[Tensor, PromptTokens], Contribution]
    tensor: Tensor
    word: bool = False

    @property
    def words(self) -> Mapping[str, Tensor]:
        return {"<cat>": self.tensor} if self.word else {}

    def present(self, text: PromptTokens) -> Contribution:
        return self.entries(self.tensor, text)

    def absent(self, text: PromptTokens) -> Contribution:
        return ()


def conditioner(prepared: Prepared) -> Conditioner:
    @record
    class Given(Conditioner):
        """Hands over what is given."""

        name: ClassVar[str] = "given"

        def prepare(self, scene: Scene, model: ModelView) -> Prepared:
            return prepared

    return Given()


def nothing(tensor: Tensor, text: PromptTokens) -> Contribution:
    return ()


def embeddings(tensor: Tensor, text: PromptTokens) -> Contribution:
    return (TokenEmbeddings(torch.tensor([2, 3]), tensor),)


def states(tensor: Tensor, text: PromptTokens) -> Contribution:
    return (TextStates(torch.tensor([2, 3]), tensor),)


def text_delta(tensor: Tensor, text: PromptTokens) -> Contribution:
    down = normal(2, 32, seed=5, scale=0.2)
    return (WeightDelta("encoder.layers.0.self_attn.v_proj", tensor.T, down, "text_encoder"),)


def unet_delta(tensor: Tensor, text: PromptTokens) -> Contribution:
    down = normal(2, 32, seed=5, scale=0.2)
    return (WeightDelta("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", tensor.T, down),)


@pytest.mark.parametrize(
    ("entries", "word"),
    [(nothing, True), (embeddings, False), (states, False), (text_delta, False), (unet_delta, False)],
)
def test_gradients_equal_finite_differences(pipe, entries, word) -> None:
    latents, noise = normal(2, 4, 8, 8, seed=1), normal(2, 4, 8, 8, seed=2)
    timesteps = torch.tensor([40, 700])

    def loss(tensor: Tensor) -> Tensor:
        given = conditioner(Trained(entries, tensor, word))
        return (pipe.predict(latents, timesteps, SCENE, [given]) - noise).square().mean()

    tensor = normal(2, 32, scale=0.1).requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(tensor), tensor)
    assert slope.abs().max() > 0
    direction = normal(2, 32, seed=3)
    step = 1e-4 * direction
    with torch.no_grad():
        difference = (loss(tensor + step) - loss(tensor - step)) / 2e-4
    assert (slope * direction).sum().item() == pytest.approx(difference.item(), rel=1e-5)


def test_a_word_is_trained(pipe) -> None:
    """20 steps towards what the model predicts of another word: the loss falls to less than half."""
    latents, timesteps = normal(4, 4, 8, 8, seed=1), torch.tensor([100, 300, 500, 700])
    aim = normal(2, 32, seed=9, scale=0.5)

    def predicted(vectors: Tensor) -> Tensor:
        given = conditioner(Trained(nothing, vectors, word=True))
        return pipe.predict(latents, timesteps, SCENE, [given])

    with torch.no_grad():
        wanted = predicted(aim)
    vectors = normal(2, 32, seed=4, scale=0.02).requires_grad_(True)
    optimizer = torch.optim.Adam([vectors], lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (predicted(vectors) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is None for parameter in pipe.unet.parameters())


def test_it_is_what_the_sampler_evaluates(pipe) -> None:
    """The same prediction as that of the first step of a generation without guidance, bit for bit."""
    seen: list[Tensor] = []

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend([*inputs, output])

    handles = [module.register_forward_hook(see) for module in (pipe.unet.conv_in, pipe.unet.conv_out)]
    with torch.no_grad():
        given = conditioner(Trained(states, normal(2, 32)))
        pipe.generate(SCENE, [given], guidance=[], steps=1)
        for handle in handles:
            handle.remove()
        latents, _, _, output = seen
        assert torch.equal(pipe.predict(latents, torch.tensor(1), SCENE, [given]), output)


def test_one_scene_for_each_of_the_latents(pipe) -> None:
    with pytest.raises(weft.UserError, match="argument 'scene': expected 2 scenes, found 1"):
        pipe.predict(normal(2, 4, 8, 8), torch.tensor(1), [SCENE])
