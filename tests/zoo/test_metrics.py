"""Metrics of the synthetic world: renders of what a scene asks for score high, of something else low."""

import pytest
from PIL import Image

from weft import Scene, Subject
from weft.core.api.registry import registry
from weft.zoo import metrics
from weft.zoo.metrics import Asked, asked
from weft.zoo.world import HELD_OUT_SUBJECTS, compose, portrait, subject

LEFT, RIGHT = (0.06, 0.3, 0.44, 0.8), (0.56, 0.3, 0.94, 0.8)
PROMPT = "a striped red star left of a blue house on grass"
SCENE = Scene(PROMPT, [Subject("star", box=LEFT), Subject("blue house", box=RIGHT)])


@pytest.fixture(scope="module")
def right() -> Image.Image:
    things = [("star", "red", "striped", LEFT, None), ("house", "blue", None, RIGHT, None)]
    return Image.fromarray(compose("grass", things, 0).image())


@pytest.fixture(scope="module")
def wrong() -> Image.Image:
    things = [("star", "blue", "plain", RIGHT, None), ("house", "blue", None, LEFT, None)]
    return Image.fromarray(compose("sand", things, 0).image())


def test_prompts_are_read_as_their_grammar_writes_them() -> None:
    assert asked(PROMPT) == [Asked("star", "red", "striped"), Asked("house", "blue", None)]
    assert asked("a toy and an umbrella in front of a brick wall") == [
        Asked("toy", None, None), Asked("umbrella", None, None)
    ]  # fmt: skip
    assert asked("nothing of this world") == []


def test_renders_of_the_scene_score_high(right: Image.Image, wrong: Image.Image) -> None:
    assert metrics.objects(right, SCENE) == 1.0
    assert metrics.objects(wrong, SCENE) == 0.5
    assert metrics.background(right, SCENE) == 1.0
    assert metrics.background(wrong, SCENE) == 0.0
    assert (metrics.placement(right, SCENE) or 0) > 0.7
    assert (metrics.placement(wrong, SCENE) or 0) < 0.2


def test_what_a_scene_does_not_ask_for_is_not_measured(right: Image.Image) -> None:
    scene = Scene("nothing of this world")
    assert [metrics.metrics()[name].measure(right, scene) for name in metrics.metrics()] == [None] * 4


def test_a_subject_is_more_like_itself_than_like_another() -> None:
    first, other = [id for id in HELD_OUT_SUBJECTS if subject(id).noun == "toy"][:2]
    scene = Scene(
        "a toy on wood", [Subject("toy", images=[Image.fromarray(portrait(first, 0, 128).image())])]
    )
    same = metrics.identity(Image.fromarray(portrait(first, 5, 128, "wood").image()), scene)
    different = metrics.identity(Image.fromarray(portrait(other, 5, 128, "wood").image()), scene)
    assert same is not None
    assert different is not None
    assert same > different + 0.2


def test_run_files_find_them() -> None:
    found = registry().metrics()
    assert {"objects", "background", "placement", "identity"} <= set(found)
    assert all(metric.summary.endswith(".") for metric in found.values())
