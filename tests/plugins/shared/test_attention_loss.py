"""The two attention-map losses: their formulas, what does not count, and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from weft.core.api.attention_maps import Site
from weft.plugins.shared.attention_loss import balanced_loss, mask_loss, token_loss

LEFT = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
BOTH = pytest.mark.parametrize("loss", [mask_loss, balanced_loss])


def maps_of(
    *by_position: list[float], grid: tuple[int, int] = (2, 2), tokens: int = 5
) -> dict[Site, torch.Tensor]:
    """One layer and one sample, with the given maps of tokens 1, 2, ..."""
    attention = torch.full((1, grid[0] * grid[1], tokens), 0.05)
    for number, values in enumerate(by_position, start=1):
        attention[0, :, number] = torch.tensor(values)
    return {Site("block", grid): attention}


def test_the_papers_form_by_hand() -> None:
    """Token 1 is 0.6 inside its left half and 0.2 outside it; the mean of |CA - M| is (0.4 + 0.2) / 2."""
    got = mask_loss(maps_of([0.6, 0.2, 0.6, 0.2]), torch.tensor([[[1]]]), LEFT[None, None])
    assert got.tolist() == pytest.approx([0.3])


def test_the_codes_form_by_hand() -> None:
    got = balanced_loss(maps_of([0.6, 0.2, 0.6, 0.2]), torch.tensor([[[1]]]), LEFT[None, None])
    assert got.tolist() == pytest.approx([0.2 - 0.6])


@BOTH
def test_the_mean_is_over_tokens_subjects_and_layers(loss) -> None:
    """Every (subject, token) pair counts once; so does every layer, whatever its size."""
    small = maps_of([0.6, 0.2, 0.6, 0.2], [0.5, 0.1, 0.3, 0.1], [0.0, 0.9, 0.0, 0.9])
    big = maps_of([0.3] * 16, [0.1] * 16, [0.2] * 8 + [0.6] * 8, grid=(4, 4))
    words, masks = torch.tensor([[[1, 2], [3, -1]]]), torch.stack([LEFT, 1 - LEFT])[None]
    pairs = [(1, LEFT), (2, LEFT), (3, 1 - LEFT)]
    alone = [
        float(loss(layer, torch.tensor([[[token]]]), mask[None, None]))
        for layer in (small, big)
        for token, mask in pairs
    ]
    both = {Site("a", (2, 2)): next(iter(small.values())), Site("b", (4, 4)): next(iter(big.values()))}
    assert loss(both, words, masks).tolist() == pytest.approx([sum(alone) / 6], abs=1e-6)


@BOTH
def test_what_is_not_known_does_not_count(loss) -> None:
    given = maps_of([0.6, 0.2, 0.6, 0.2], [0.9, 0.9, 0.9, 0.9])
    one = loss(given, torch.tensor([[[1]]]), LEFT[None, None])
    without_word = loss(given, torch.tensor([[[1], [-1]]]), torch.stack([LEFT, 1 - LEFT])[None])
    without_mask = loss(given, torch.tensor([[[1], [2]]]), torch.stack([LEFT, 0 * LEFT])[None])
    assert torch.equal(one, without_word)
    assert torch.equal(one, without_mask)
    assert loss(given, torch.tensor([[[-1]]]), LEFT[None, None]).tolist() == [0.0]
    assert loss({}, torch.tensor([[[1]]]), LEFT[None, None]).tolist() == [0.0]


@BOTH
def test_a_sample_of_a_batch_is_as_alone(loss) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = {
        Site(str(side), (side, side)): torch.rand(3, side * side, 9, generator=generator) for side in (8, 4)
    }
    words = torch.tensor([[[1, 2], [5, -1]], [[-1, -1], [3, 4]], [[-1, -1], [-1, -1]]])
    masks = (torch.rand(3, 2, 16, 16, generator=generator) > 0.5).float()
    together = loss(maps, words, masks)
    for i in range(3):
        one = loss({site: p[i : i + 1] for site, p in maps.items()}, words[i : i + 1], masks[i : i + 1])
        assert torch.allclose(one[0], together[i], atol=1e-6)


@BOTH
def test_descent_moves_attention_into_the_mask(loss) -> None:
    scores = torch.zeros(1, 16, 5, requires_grad=True)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1.0

    def inside() -> float:
        return float(scores.detach().softmax(-1)[0, :, 2].view(4, 4)[:, :2].mean())

    before = inside()
    (gradient,) = torch.autograd.grad(
        loss({Site("a", (4, 4)): scores.softmax(-1)}, torch.tensor([[[2]]]), mask).sum(), scores
    )
    with torch.no_grad():
        scores -= 10 * gradient
    assert inside() > before + 0.01


def test_a_subject_that_fills_the_picture_leaves_no_background() -> None:
    got = balanced_loss(maps_of([0.6, 0.2, 0.6, 0.2]), torch.tensor([[[1]]]), torch.ones(1, 1, 2, 2))
    assert got.tolist() == pytest.approx([-0.4])


def test_the_tokens_loss_by_hand() -> None:
    """A 1x2 map: the left position should look at the left box's token, the right one at the token without a box."""
    looked_at = torch.tensor([[[0.5, 0.3, 0.2], [0.5, 0.1, 0.4]]]).log()
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 1.0, 1.0]]])
    placed = torch.tensor([[True, True, False]])
    found = token_loss(looked_at, boxes, placed, (1, 2))
    assert found.tolist() == pytest.approx([-(math.log(0.5) + math.log(0.4)) / 2])
    both = boxes.clone()
    both[:, 1] = both[:, 0]  # two boxes over one position: either token will do
    assert token_loss(looked_at, both, placed, (1, 2)).tolist() == pytest.approx(
        [-(math.log(0.8) + math.log(0.4)) / 2]
    )


def test_the_tokens_loss_asks_nothing_where_no_token_is_wanted() -> None:
    looked_at = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log().requires_grad_(True)
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.5, 1.0]]])
    full = token_loss(looked_at, boxes, torch.ones(1, 2, dtype=torch.bool), (1, 2))
    assert full.tolist() == pytest.approx([0.0], abs=1e-6)
    none = token_loss(looked_at, boxes, torch.zeros(1, 2, dtype=torch.bool), (1, 2))
    assert none.tolist() == pytest.approx([0.0], abs=1e-6)
    one = token_loss(looked_at, boxes, torch.tensor([[True, False]]), (1, 2))
    (gradient,) = torch.autograd.grad(one.sum(), looked_at)
    assert gradient[0, 0, 0] < 0
    assert gradient[0, 1, 1] < 0
