"""The trace of a generation: evaluations, losses and refinement updates, counted from outside; and the progress."""

from __future__ import annotations

from itertools import pairwise

import pytest

import weft
from weft.core.sampling.progress import Progress
from weft.testing import SecondPrompt, random_pipeline

SCENE = weft.Scene("a toy and a red star on grass", [weft.Subject("toy"), weft.Subject("star")])
STEPS = 4


@pytest.fixture
def rows():
    """The rows of every UNet call that runs to the end, and of every one that begins."""
    unet = random_pipeline().unet
    seen: dict[str, list[int]] = {"ended": [], "begun": []}
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output, name=name: seen[name].append(len(output)))
        for name, layer in (("begun", unet.conv_in), ("ended", unet.conv_out))
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def excite(**options) -> weft.AttendAndExcite:
    return weft.AttendAndExcite(2e4, **{"thresholds": {0: 0.02, 2: 0.5}, "updates": 3, "steps": 3, **options})


@pytest.mark.parametrize(
    ("guidance", "evaluations"),
    [
        ([], [1, 1, 1, 1]),
        ([weft.ClassifierFree(7.5, interval=(0.25, 1.0))], [1, 2, 2, 2]),
        ([weft.Fusing(0.5, "second_prompt"), weft.ClassifierFree(7.5)], [3, 3, 3, 3]),
        ([excite(), weft.Fusing(1.0, "second_prompt"), weft.ClassifierFree(7.5)], [2, 2, 2, 2]),
    ],
)
def test_evaluations_are_the_supports(rows, guidance, evaluations) -> None:
    options = {"guidance": guidance, "conditioners": [SecondPrompt()], "steps": STEPS, "seeds": [0, 1]}
    result = random_pipeline().generate(SCENE, **options)
    assert [trace.evaluations for trace in result.trace] == evaluations
    assert [len(trace.form) for trace in result.trace] == evaluations
    assert rows["ended"] == [2 * count for count in evaluations]
    gradients = [descent.gradients for trace in result.trace for descent in trace.descents]
    assert len(rows["begun"]) - len(rows["ended"]) == sum(gradients)


def test_branches_that_come_to_the_same_input_are_counted_once(rows) -> None:
    same = weft.Composable(3.0, prompts={SCENE.prompt: 3.0})
    result = random_pipeline().generate(SCENE, guidance=[same], steps=2)
    assert [(len(trace.form), trace.evaluations) for trace in result.trace] == [(3, 2)] * 2
    assert rows["ended"] == [2, 2]


def test_losses_and_updates_are_those_that_were_made() -> None:
    strategy = excite()
    seen: list[Progress] = []
    result = random_pipeline().generate(
        SCENE, guidance=[strategy], steps=STEPS, seeds=[0, 1, 2], progress=seen.append
    )
    updates = [[descent.updates for descent in trace.descents] for trace in result.trace]
    assert updates[1] == [(0, 0, 0)]
    assert updates[2] == [(3, 3, 3)]  # half of all attention is out of reach
    assert updates[3] == []
    for trace in result.trace[:3]:
        (descent,) = trace.descents
        assert descent.name == "attend_and_excite"
        assert descent.gradients == 1 + max(descent.updates)
        assert all(len(row) == 3 and min(row) >= 0.0 and max(row) <= 1.0 for row in descent.losses)
        for sample, count in enumerate(descent.updates):
            losses = [row[sample] for row in descent.losses]
            assert losses[count:] == pytest.approx([losses[count]] * (len(losses) - count), abs=1e-4)
            assert all(a != b for a, b in pairwise(losses[: count + 1]))
    told = [(now.step, now.update) for now in seen]
    first = max(result.trace[0].descents[0].updates)
    expected = [*((0, n + 1) for n in range(first)), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (4, 0)]
    assert told == expected
    assert {now.strategy for now in seen if now.update} == {"attend_and_excite"}


def test_a_loss_of_the_trace_is_the_samples_own() -> None:
    options = {"guidance": [excite()], "steps": 1}
    together = random_pipeline().generate(SCENE, seeds=[0, 1], **options).trace[0].descents[0]
    for number in range(2):
        alone = random_pipeline().generate(SCENE, seeds=[number], **options).trace[0].descents[0]
        assert alone.losses[0][0] == pytest.approx(together.losses[0][number], abs=1e-5)
        assert alone.updates[0] == together.updates[number]


def test_progress_reads_as_a_sentence() -> None:
    assert str(Progress(0, 1, 1, 3, 50)) == "step 3 of 50"
    assert str(Progress(0, 1, 1, 3, 50, 7, "layout")) == "step 4 of 50, layout: update 7"
