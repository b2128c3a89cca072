"""attend_and_excite: equality with diffusers' deprecated pipeline, batches, what it costs, and the plugin contract."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
    pipeline_stable_diffusion_attend_and_excite as peer,
)

import weft
from weft.core.api.attention_maps import AttentionMaps, Site
from weft.core.api.branches import Branch
from weft.core.api.guidance import Step
from weft.core.load import load
from weft.testing import parametrize_with_checks, random_model, random_pipeline

PROMPT = "a toy and a red star on grass"
SCENE = weft.Scene(PROMPT, [weft.Subject("toy"), weft.Subject("star")])
POSITIONS = [2, 6]
FIRST = Step(0, 10, 999.0, Branch())


@parametrize_with_checks(
    [
        weft.AttendAndExcite(scale=100.0, thresholds={}),
        weft.AttendAndExcite(
            100.0, ("toy", "grass"), thresholds={1: 0.9}, updates=2, smoothing="none", steps=2
        ),
        weft.AttendAndExcite(scale=10.0, thresholds={0: 0.9}, updates=1, separation=3.0),
    ]
)
def test_contract(plugin, check) -> None:
    check(plugin)


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model"))


class Losses(logging.Handler):
    """The peer's refinement, as it logs it."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = self.exceeded = 0

    def emit(self, entry: logging.LogRecord) -> None:
        self.tries += "Try" in entry.getMessage()
        self.exceeded += "Exceeded" in entry.getMessage()


class Smoothing:
    """The peer's kernel, which it keeps in float32, in float64."""

    def __init__(self) -> None:
        line = (-((torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) / (2 * 0.5)) ** 2)).exp()
        self.weight = (torch.outer(line, line) / line.sum() ** 2)[None, None]
        assert torch.allclose(self.weight.float(), SMOOTHING().weight)

    def to(self, device: torch.device) -> Smoothing:
        return self

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(image, self.weight)


SMOOTHING = peer.GaussianSmoothing


def compare(
    folder, side: int, settings: dict[str, Any], dtype: torch.dtype, monkeypatch
) -> tuple[float, float, Losses]:
    """Largest difference to the peer; what the strategy changes; how the peer refined."""
    theirs = peer.StableDiffusionAttendAndExcitePipeline.from_pretrained(
        folder, safety_checker=None, torch_dtype=dtype
    )
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    if dtype == torch.float64:
        monkeypatch.setattr(peer, "GaussianSmoothing", Smoothing)
    ours = load(folder, device="cpu", dtype=dtype)
    positions = settings.get("positions", 384)
    grid = max(grid for grid in (side // 4, side // 8) if grid**2 <= positions)
    losses, level = Losses(), peer.logger.level
    peer.logger.addHandler(losses)
    peer.logger.setLevel(logging.INFO)
    noise = torch.randn(
        1, 4, *ours.view((side, side)).latent_size, generator=torch.Generator().manual_seed(5)
    )
    try:
        expected = theirs(
            PROMPT,
            token_indices=POSITIONS,
            num_inference_steps=8,
            guidance_scale=7.5,
            height=side,
            width=side,
            latents=noise.to(dtype),
            max_iter_to_alter=settings["steps"],
            thresholds=settings["thresholds"],
            scale_factor=settings["scale"],
            attn_res=(grid, grid),
            output_type="latent",
        ).images
    finally:
        peer.logger.removeHandler(losses)
        peer.logger.setLevel(level)
    excited = [weft.AttendAndExcite(**settings), weft.ClassifierFree(7.5)]
    options = {"steps": 8, "seeds": [5], "height": side, "width": side}
    found = ours.generate(SCENE, guidance=excited, **options).latents
    plain = ours.generate(SCENE, guidance=excited[1:], **options).latents
    assert found.dtype == expected.dtype == dtype
    return float((found - expected).abs().max()), float((found - plain).abs().max()), losses


# the second set reaches its first threshold and gives up on its second
@pytest.mark.parametrize("thresholds", [{}, {0: 0.02, 3: 0.5}])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_equals_diffusers_on_random_weights(random_folder, thresholds, dtype, bound, monkeypatch) -> None:
    settings = {"scale": 2e4, "steps": 5, "thresholds": thresholds, "updates": 20}
    error, effect, losses = compare(random_folder, 32, settings, dtype, monkeypatch)
    assert effect > 1.0
    assert error <= bound
    assert (losses.tries > 20, losses.exceeded) == ((True, 1) if thresholds else (False, 0))


# in float64, as trained weights amplify the rounding of float32 by how often the latents are moved
@pytest.mark.parametrize(("scale", "positions"), [(1.0, 384), (20.0, 384), (200.0, 384), (20.0, 64)])
def test_equals_diffusers_on_tiny(scale: float, positions: int, monkeypatch) -> None:
    settings = {
        "scale": scale,
        "steps": 5,
        "thresholds": {0: 1.0, 2: 0.9},
        "updates": 20,
        "positions": positions,
    }
    error, effect, losses = compare(weft.load("tiny").folder, 64, settings, torch.float64, monkeypatch)
    assert effect > 0.1
    assert error <= 1e-9
    assert losses.tries >= 20


def maps(probabilities: torch.Tensor, scene: weft.Scene = SCENE) -> AttentionMaps:
    """Maps of one layer of 4 x 4 positions; one sample for each of the first axis."""
    samples = len(probabilities)
    text = random_pipeline().text.tokens(scene.prompt)
    return AttentionMaps({Site("block", (4, 4)): probabilities}, [text] * samples, [scene] * samples)


def noise(samples: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, 3, 16, 77, generator=generator, dtype=torch.float64).softmax(dim=-1)


def test_loss_is_the_released_codes() -> None:
    given = noise()
    found = weft.AttendAndExcite().loss(maps(given), FIRST)
    for sample, loss in zip(given, found, strict=True):
        mean = sample.mean(dim=0).reshape(4, 4, 77)
        most = peer.StableDiffusionAttendAndExcitePipeline._compute_max_attention_per_index(mean, POSITIONS)
        assert float(loss) == pytest.approx(float(1.0 - min(most)), abs=1e-7)


def test_step_size_follows_the_released_schedule() -> None:
    strategy = weft.AttendAndExcite(scale=20.0)
    sizes = [strategy.step_size(Step(i, 50, 0.0, Branch())) for i in (0, 24, 49)]
    assert sizes == pytest.approx([20.0, 20.0 * math.sqrt(1 - 0.5 * 24 / 49), 20.0 * math.sqrt(0.5)])


@pytest.mark.parametrize(
    ("smoothing", "expected"), [("original", 0.3319), ("gaussian", 0.6193), ("none", 1.0)]
)
def test_kernels(smoothing: str, expected: float) -> None:
    spike = torch.zeros(1, 5, 5)
    spike[0, 2, 2] = 1.0
    smoothed = weft.AttendAndExcite(smoothing=smoothing)._smoothed(spike)
    assert float(smoothed[0, 2, 2]) == pytest.approx(expected, abs=1e-4)
    assert float(smoothed.sum()) == pytest.approx(1.0)
    assert weft.AttendAndExcite(smoothing=smoothing)._smoothed(spike[:, 2:3]).shape == (1, 1, 5)


def test_words_of_a_phrase_together_or_each() -> None:
    given = maps(noise(), weft.Scene(PROMPT, [weft.Subject("red star")]))
    words = [
        weft.AttendAndExcite(phrases=(word,), smoothing="none").loss(given, FIRST) for word in ("red", "star")
    ]
    together = weft.AttendAndExcite(smoothing="none").loss(given, FIRST)
    each = weft.AttendAndExcite(words="each", smoothing="none").loss(given, FIRST)
    assert torch.equal(each, torch.maximum(*words))
    assert (together < torch.minimum(*words)).all()


def test_the_gradient_flows_to_every_sample_alone() -> None:
    given = noise().requires_grad_(True)
    loss = weft.AttendAndExcite().loss(maps(given), FIRST)
    (gradient,) = torch.autograd.grad(loss[0], given)
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0


def spots(*places: tuple[int, int], grid: tuple[int, int] = (4, 4)) -> torch.Tensor:
    """Every subject is attended to at one place alone, "grass" and the rest nowhere."""
    given = torch.full((1, 3, math.prod(grid), 77), 1e-9)
    for position, (row, column) in zip(POSITIONS, places, strict=False):
        given[..., row * grid[1] + column, position] = 0.5
    return given


@pytest.mark.parametrize(
    ("places", "grid", "apart"),
    [
        (((1, 1), (1, 1)), (4, 4), 0.0),
        (((1, 1), (1, 2)), (4, 4), 1 / 4),
        (((0, 0), (3, 3)), (4, 4), math.sqrt(18) / 4),
        # sides of a square of 2 x 8 positions, which has 4 of them
        (((0, 1), (0, 2)), (2, 8), 1 / 4),
        (((0, 0), (1, 0)), (2, 8), 1 / 4),
    ],
)
def test_separation_counts_how_near_two_subjects_are(places, grid, apart: float) -> None:
    text = random_pipeline().text.tokens(PROMPT)
    given = AttentionMaps({Site("block", grid): spots(*places, grid=grid)}, [text], [SCENE])
    without = weft.AttendAndExcite(smoothing="none").loss(given, FIRST)
    for distance in (0.2, 0.6):
        strategy = weft.AttendAndExcite(smoothing="none", separation=3.0, distance=distance)
        added = float(strategy.loss(given, FIRST) - without)
        assert added == pytest.approx(3.0 * max(0.0, 1.0 - apart / distance), abs=1e-5)


def test_separation_is_of_every_pair_and_of_no_single_subject() -> None:
    scene = weft.Scene(PROMPT, [weft.Subject("toy"), weft.Subject("star"), weft.Subject("grass")])
    given = spots((0, 0), (0, 2))
    given[..., 1, 8] = 0.5  # "grass" between the two
    near = weft.AttendAndExcite(smoothing="none", separation=1.0, distance=1.0)
    alone = weft.AttendAndExcite(smoothing="none")
    added = near.loss(maps(given, scene), FIRST) - alone.loss(maps(given, scene), FIRST)
    assert float(added) == pytest.approx(2 * (1 - 1 / 4) + (1 - 2 / 4), abs=1e-5)
    one = weft.Scene(PROMPT, [weft.Subject("red star")])
    for words in ("together", "each"):  # the words of one phrase belong together
        losses = [dataclasses.replace(s, words=words).loss(maps(given, one), FIRST) for s in (near, alone)]
        assert torch.equal(*losses)


def test_descending_the_separation_moves_subjects_apart() -> None:
    scores = 0.1 * torch.randn(1, 3, 16, 77, generator=torch.Generator().manual_seed(1))
    strategy = weft.AttendAndExcite(separation=1.0)

    def distance(scores: torch.Tensor) -> tuple[float, torch.Tensor]:
        given = maps(scores.softmax(dim=-1))
        loss = strategy._crowding(given.mean((4, 4))[0][..., POSITIONS].permute(2, 0, 1))
        return float(loss.detach()), loss

    scores.requires_grad_(True)
    before, loss = distance(scores)
    for _ in range(20):
        (gradient,) = torch.autograd.grad(loss, scores)
        scores = (scores - 200.0 * gradient).detach().requires_grad_(True)
        after, loss = distance(scores)
    assert before > 0.5
    assert after < 0.5 * before


def test_a_threshold_waits_for_the_separation() -> None:
    options = {"scale": 1e-6, "thresholds": {0: 1e-6}, "steps": 1, "updates": 3}
    updates = {}
    for separation in (0.0, 1e3):
        strategy = weft.AttendAndExcite(**options, separation=separation, distance=10.0)
        result = random_pipeline().generate(SCENE, guidance=[strategy], steps=2)
        updates[separation] = result.trace[0].descents[0].updates[0]
    assert updates == {0.0: 0, 1e3: 3}


def draw(**options: Any) -> weft.Result:
    strategy = weft.AttendAndExcite(2e4, thresholds={0: 0.03, 2: 0.03}, steps=3, updates=4)
    guidance = [strategy, weft.ClassifierFree(7.5)]
    return random_pipeline().generate(SCENE, **{"guidance": guidance, "steps": 5, **options})


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_a_sample_of_a_batch_equals_its_single_run(scheduler: str) -> None:
    options = {"height": 48, "width": 32, "scheduler": scheduler}
    together = draw(seeds=[0, 1, 2, 3], **options)
    plain = draw(seeds=[0, 1, 2, 3], guidance=["classifier_free"], **options)
    assert float((together.latents - plain.latents).abs().amax(dim=(1, 2, 3)).min()) > 1e-2
    for number in range(4):
        alone = draw(seeds=[number], **options).latents[0]
        assert torch.allclose(alone, together.latents[number], atol=1e-3, rtol=1e-4)


def test_altering_lowers_the_loss_and_then_costs_nothing() -> None:
    """Counts the UNet's calls, and which of them ran to the end."""
    unet, calls = random_pipeline().unet, {"begun": 0, "ended": 0, "gradient": 0}

    def begin(module, inputs, output) -> None:
        calls["begun"] += 1
        calls["gradient"] += torch.is_grad_enabled()

    def end(module, inputs, output) -> None:
        calls["ended"] += 1

    hooks = [unet.conv_in.register_forward_hook(begin), unet.conv_out.register_forward_hook(end)]
    try:
        draw(guidance=[weft.AttendAndExcite(20.0, thresholds={}, steps=2), weft.ClassifierFree(7.5)])
    finally:
        for hook in hooks:
            hook.remove()
    assert calls == {"begun": 2 + 5, "ended": 5, "gradient": 2}


def test_a_step_means_the_same_at_every_scale_of_the_latents() -> None:
    """Euler's latents are larger than what the UNet reads; the move that it sees is the same."""
    from weft.core.sampling.attention_energy import EnergyDescent
    from weft.core.sampling.branch_evaluator import BranchEvaluator, MapRequest, PreparedScene
    from weft.core.unet.forward import UNetForward

    pipe = random_pipeline()
    evaluator = BranchEvaluator(UNetForward(pipe.unet), [PreparedScene(SCENE, pipe.view((32, 32)), {})])
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    request = MapRequest(Branch(), pipe.map_paths((8, 8)))
    step, timestep = Step(0, 5, 900.0, Branch()), torch.tensor(900)
    moved = [
        EnergyDescent(weft.AttendAndExcite(2e4), evaluator, request, step, timestep, torch.tensor(k)).run(
            latents / k
        )[0]
        * k
        for k in (1.0, 0.125)
    ]
    assert (moved[0] - latents).abs().max() > 0.1
    assert torch.allclose(moved[0], moved[1], atol=1e-5)


def test_nothing_to_attend_to_is_refused() -> None:
    bare = weft.Scene(PROMPT)
    with pytest.raises(weft.UserError, match=r"attend_and_excite.*a subject.*'phrases'"):
        random_pipeline().generate(bare, guidance=["attend_and_excite"], steps=1)
    with pytest.raises(weft.UserError, match="'boat'"):
        random_pipeline().generate(bare, guidance=[weft.AttendAndExcite(phrases=("boat",))], steps=1)
    with pytest.raises(weft.UserError, match="thresholds"):
        weft.AttendAndExcite(thresholds={0: 1.5})


def test_phrases_stand_in_for_subjects() -> None:
    by_phrase = dataclasses.replace(weft.AttendAndExcite(2e4, thresholds={}), phrases=("toy", "star"))
    bare = random_pipeline().generate(weft.Scene(PROMPT), guidance=[by_phrase], steps=2).latents
    named = (
        random_pipeline()
        .generate(SCENE, guidance=[dataclasses.replace(by_phrase, phrases=())], steps=2)
        .latents
    )
    assert torch.equal(bare, named)


@pytest.mark.parametrize(("positions", "grid"), [(384, (8, 8)), (63, (4, 4)), (1, (4, 4))])
def test_positions_choose_the_maps_that_are_read(monkeypatch, positions: int, grid: tuple[int, int]) -> None:
    read = []
    loss = weft.AttendAndExcite.loss

    def spy(self, maps, step):
        read.append(maps.grids)
        return loss(self, maps, step)

    monkeypatch.setattr(weft.AttendAndExcite, "loss", spy)
    chain = [weft.AttendAndExcite(2e4, thresholds={}, steps=1, positions=positions), weft.Layout(steps=1)]
    pipe, scene = random_pipeline(), weft.Scene(PROMPT, [weft.Subject("toy", box=(0, 0, 0.5, 1))])
    result = pipe.generate(scene, guidance=chain, steps=1, height=32, width=32)
    assert read == [[grid]]
    # what is shown afterwards does not follow what one strategy reads
    assert result.attention("toy").shape == (8, 8)


def test_maps_of_a_large_picture_are_not_those_of_the_middle_block_alone() -> None:
    paths = random_pipeline().map_paths((64, 64))
    assert {path.split(".")[0] for path in paths} == {"down_blocks", "up_blocks"}


def test_a_phrase_that_stands_there_twice_is_told_what_the_field_can_carry() -> None:
    scene = weft.Scene("a red ball and a red star")
    with pytest.raises(weft.UserError) as refused:
        random_pipeline().generate(scene, guidance=[weft.AttendAndExcite(phrases=("red",))], steps=1)
    assert str(refused.value) == (
        "attend_and_excite, field 'phrases', 'red': expected a phrase that the prompt has once, found more than one. "
        "Take more words of it, or leave 'phrases' out and name subjects with an 'occurrence'."
    )
