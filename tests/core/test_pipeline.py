"""generate: seeds, batches, sizes, results, traces, and what happens when something goes wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import pytest
import torch

import weft
from weft.core.api.branches import LinearForm
from weft.core.api.guidance import Energy, LatentEdit, Refinement
from weft.core.pipeline import _resolved
from weft.core.result import Result
from weft.core.sampling.progress import Progress
from weft.testing import random_pipeline

SCENE = weft.Scene("a toy and a red star on grass")
SCENE_OF_ONE = weft.Scene("a boat at night", [weft.Subject("boat")])


def draw(scene=SCENE, **options) -> weft.Result:
    return random_pipeline().generate(scene, **{"steps": 3, **options})


def test_a_seed_means_the_same_image_in_any_batch() -> None:
    together = draw(seeds=[5, 6, 7])
    for size in (1, 2):
        assert torch.allclose(draw(seeds=[5, 6, 7], batch_size=size).latents, together.latents, atol=1e-4)
    assert not torch.allclose(together.latents[0], together.latents[1])


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As most users have more than one; see conftest.py."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_exact_mode_holds_with_several_threads() -> None:
    draw_exact = partial(
        draw, guidance=["attend_and_excite", "classifier_free"], reproducibility="exact", batch_size=3
    )
    scene = weft.Scene(SCENE.prompt, [weft.Subject("toy"), weft.Subject("star")])
    together = draw_exact([SCENE_OF_ONE, scene], seeds=[3, 1, 2])
    for slot, seed in enumerate((3, 1, 2)):
        assert torch.equal(together.latents[3 + slot], draw_exact(scene, seeds=[seed]).latents[0])


@pytest.mark.parametrize("scheduler", ["ddim", "euler_ancestral"])
def test_scenes_times_seeds(scheduler) -> None:
    other = weft.Scene("a boat at night")
    both = draw([SCENE, other], seeds=[1, 2], scheduler=scheduler)
    assert [(s.scene.prompt, s.seed) for s in both.samples] == [
        (SCENE.prompt, 1),
        (SCENE.prompt, 2),
        (other.prompt, 1),
        (other.prompt, 2),
    ]
    alone = draw(other, seeds=[2], scheduler=scheduler)
    assert torch.allclose(both.latents[3], alone.latents[0], atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (40, 24), (36, 52)])
def test_any_multiple_of_the_latent_factor(size) -> None:
    result = draw(height=size[0], width=size[1])
    assert result.images[0].size == (size[1], size[0])
    assert result.latents.shape[2:] == (size[0] // 4, size[1] // 4)
    assert result.attention("toy").shape == result.latents.shape[2:]


def test_attention_by_phrase() -> None:
    result = draw(seeds=[0, 1])
    words = ["a", "toy", "and", "a", "red", "star", "on", "grass"]
    assert torch.allclose(
        result.attention("red star", 1), result.attention("red", 1) + result.attention("star", 1), atol=1e-6
    )
    assert 0 < result.attention("toy").min() <= result.attention("toy").max() < 1
    assert result.overlay("toy").size == result.images[0].size
    assert result.attention("a", occurrence=2).shape == (8, 8)
    with pytest.raises(weft.UserError, match="'boat'"):
        result.attention("boat")
    with pytest.raises(weft.UserError, match="attention=True"):
        draw(attention=False).attention(words[1])


def test_recording_changes_no_bit() -> None:
    assert torch.equal(draw(attention=True).latents, draw(attention=False).latents)


def test_save_grid_and_notebook(tmp_path) -> None:
    result = draw(seeds=[3, 4, 9])
    paths = result.save(tmp_path / "deep" / "folder")
    assert [path.name for path in paths] == ["0000-seed3.png", "0001-seed4.png", "0002-seed9.png"]
    assert not list(tmp_path.rglob("*.partial"))
    assert result.grid(columns=3, gap=2).size == (3 * 32 + 4, 32)
    assert result._repr_html_().count("<img") == 3


def test_progress_and_finished_batches_arrive_in_order() -> None:
    seen: list[Progress] = []
    parts: list[Result] = []
    draw(seeds=[0, 1, 2], batch_size=2, progress=seen.append, on_batch=parts.append)
    assert [(p.images_done, p.step) for p in seen] == [(0, 1), (0, 2), (0, 3), (2, 1), (2, 2), (2, 3)]
    assert seen[-1].fraction == 1.0
    assert [len(part) for part in parts] == [2, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height": 30}, ["'height'", "multiple of 4", "30", "32 is near"]),
        ({"width": -4}, ["'width'", "-4"]),
        ({"steps": 0}, ["'steps'", "at least 1"]),
        ({"steps": 1000}, ["'steps'", "at most 999", "'ddim'"]),
        ({"batch_size": 0}, ["'batch_size'"]),
        ({"seeds": []}, ["'seeds'", "at least one"]),
        ({"scheduler": "dimm"}, ["'scheduler'", "Did you mean 'ddim'?"]),
        ({"guidance": ["clasifier_free"]}, ["Did you mean 'classifier_free'?"]),
    ],
)
def test_wrong_arguments(options, words) -> None:
    with pytest.raises(weft.UserError) as refused:
        draw(**options)
    for word in words:
        assert word in str(refused.value)


def test_objects_of_the_wrong_kind() -> None:
    # asked of the helper: the type checker that tests switch on would answer before `generate` does
    with pytest.raises(weft.UserError, match=r"instance of weft\.Guidance, found 7\.5"):
        _resolved(7.5, "guidance", weft.Guidance)
    with pytest.raises(weft.UserError, match=r"instance of weft\.Conditioner, found ClassifierFree"):
        _resolved(weft.ClassifierFree(), "conditioner", weft.Conditioner)


def test_a_subject_that_the_tokenizer_cuts_off_is_named() -> None:
    scene = weft.Scene("very " * 90 + "small toy", [weft.Subject("toy")])
    with pytest.raises(weft.UserError, match=r"subject 'toy', field 'phrase'.*77 tokens"):
        draw(scene)


@weft.record
class Careless(weft.Guidance):
    """Breaks one clause of the contract."""

    name: ClassVar[str] = "careless"
    neutral: ClassVar = {}
    fault: str = ""

    def rewrite(self, form, step):
        if self.fault == "raise" and step.index == 1:
            raise ZeroDivisionError("oops")
        return 2.0 * form if self.fault == "sum" else form

    def combine(self, guided, values, step):
        if self.fault == "nan":
            return guided * float("nan")
        return guided[:, :2] if self.fault == "shape" else guided


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", ["careless", "rewrite at step 1", "ZeroDivisionError", "oops"]),
        ("sum", ["careless", "rewrite at step 0", "sum to 1"]),
        ("shape", ["careless", "combine at step 0", "expected shape"]),
        ("nan", ["step 0", "not finite"]),
    ],
)
def test_a_failing_strategy_is_named_with_its_step(fault, words) -> None:
    before = draw(guidance=[]).latents
    with pytest.raises(weft.PluginError) as failed:
        draw(guidance=[Careless(fault=fault)])
    for word in words:
        assert word in str(failed.value)
    assert torch.equal(draw(guidance=[]).latents, before)


@weft.record
class Pull(Energy):
    """Pulls the attention of the second token up, from one threshold on."""

    name: ClassVar[str] = "pull"
    neutral: ClassVar = {"size": 0.0}
    size: float = 1.0
    updates: int = 0
    target: float = 0.0

    def applies(self, step):
        return step.index == 0 and self.size != 0.0

    def loss(self, maps, step):
        return 1.0 - maps.mean(maps.grids[0])[..., 2].flatten(1).amax(1)

    def step_size(self, step):
        return self.size

    def refinement(self, step):
        return Refinement(self.target, self.updates) if self.updates else None


def test_an_energy_moves_each_sample_down_its_own_gradient() -> None:
    plain, pulled = draw(guidance=[], seeds=[0, 1]), draw(guidance=[Pull(size=50.0)], seeds=[0, 1])
    alone = draw(guidance=[Pull(size=50.0)], seeds=[1])
    assert not torch.equal(plain.latents, pulled.latents)
    assert torch.allclose(pulled.latents[1], alone.latents[0], atol=1e-4)


def test_refinement_stops_each_sample_by_itself() -> None:
    losses = []

    @weft.record
    class Watched(Pull):
        """Keeps its losses."""

        name: ClassVar[str] = "watched"

        def loss(self, maps, step):
            losses.append(super().loss(maps, step))
            return losses[-1]

    draw(guidance=[Watched(size=1.0)], seeds=[0, 1], steps=1)
    first = losses[0].detach()
    between = float(first.mean())
    above = int(first.argmax())
    losses.clear()
    draw(guidance=[Watched(size=50.0, updates=3, target=between)], seeds=[0, 1], steps=1)
    assert len(losses) >= 2
    assert losses[1][1 - above] == losses[0][1 - above], "a sample below the target was moved"
    assert losses[1][above] != losses[0][above], "a sample above the target was not moved"


@weft.record
class Frame(LatentEdit):
    """Sets the first row of the latents to a number after every step."""

    name: ClassVar[str] = "frame"
    neutral: ClassVar = {}

    def edit(self, latents, step):
        edited = latents.clone()
        edited[:, :, 0] = 0.25
        return edited


def test_a_latent_edit_has_the_last_word() -> None:
    assert (draw(guidance=[Frame()]).latents[:, :, 0] == 0.25).all()


@weft.record
class Mixed(weft.Guidance):
    """The full branch, plus and minus another that cancels."""

    name: ClassVar[str] = "mixed"
    neutral: ClassVar = {}
    weight: float = 0.0

    def rewrite(self, form, step):
        return (
            form + self.weight * LinearForm.of(form.null("x")) - self.weight * LinearForm.of(form.null("x"))
        )


def test_a_zero_coefficient_costs_no_evaluation() -> None:
    result = draw(guidance=[Mixed(weight=3.0)])
    assert [len(trace.form) for trace in result.trace] == [1, 1, 1]
    assert torch.equal(result.latents, draw(guidance=[]).latents)


BOXED = weft.Scene("a toy", [weft.Subject("toy", box=(0, 0, 0.5, 1))])


def test_data_that_nothing_reads_is_warned_of_once_where_generate_is_called() -> None:
    message = r"scene 'a toy', subject 'toy', field 'box': .* that reads 'subjects.box', found none"
    with pytest.warns(weft.SceneWarning, match=message) as caught:
        draw([BOXED, BOXED])
    assert len(caught) == 1
    assert caught[0].message.error.found == "none"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(BOXED, guidance=["classifier_free", "layout"])
