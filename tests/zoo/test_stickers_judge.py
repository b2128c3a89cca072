"""The judge of artwork, in miniature: it learns from its own renders, and reads in their words."""

from pathlib import Path

import pytest
import torch

from weft.zoo.judge.train import Recipe
from weft.zoo.judge.train import recipe as read_recipe
from weft.zoo.stickers import HELD_OUT_SUBJECTS, sample
from weft.zoo.stickers.judge import RECIPES, WORDS, evaluate, labelled, rates, scenes, task, views
from weft.zoo.training.loop import LoopRecipe, Trainer

SMALL = Recipe(
    pictures=4, views=4, minutes=1, loop=LoopRecipe(steps=2, batch_size=4, learning_rate=1e-3, warmup=1)
)


@pytest.mark.parametrize("name", ["detector", "identity", "segmenter"])
def test_every_network_learns_from_its_pictures(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    job = task(name, SMALL)
    before = {key: value.clone() for key, value in job.model.state_dict().items()}
    Trainer(job, SMALL.loop, tmp_path / name).run()
    after = job.model.state_dict()
    moved = [key for key, value in job.model.named_parameters() if not torch.equal(before[key], value)]
    assert moved
    assert all(torch.isfinite(value).all() for value in after.values())
    if name == "detector":
        found = evaluate(tmp_path, count=4)
        assert found["noun"].n >= 4
        assert found["background"].n == 4


def test_words_and_boxes_are_those_of_the_pictures() -> None:
    data = scenes(range(20), "held_out")
    for seed, words, boxes in zip(range(20), data.words, data.boxes, strict=True):
        things = sample(seed, "held_out").objects
        for thing, word, box in zip(things, words, boxes, strict=False):
            assert WORDS["nouns"][word[0]] == thing.noun
            assert thing.color is None if word[1] < 0 else WORDS["colors"][word[1]] == thing.color
            assert box.tolist() == pytest.approx(thing.box)
        assert (words[len(things) :] == -1).all()


def test_pixels_are_labelled_by_noun() -> None:
    data = labelled(range(10), "train")
    for seed, shown in enumerate(data.labels):
        nouns = {WORDS["nouns"][label - 1] for label in shown.unique().tolist() if label}
        assert nouns == {thing.noun for thing in sample(seed).objects}


def test_views_show_their_subject_in_the_box() -> None:
    data = views(HELD_OUT_SUBJECTS[:3], range(2), portraits=False)
    assert data.subject.tolist() == [n for n in HELD_OUT_SUBJECTS[:3] for _ in range(2)]
    assert (data.boxes[:, 2:] > data.boxes[:, :2]).all()


def test_a_reading_of_nothing_is_never_right() -> None:
    from weft.zoo.judge.model import Reading

    pictures = [sample(seed, "held_out", subjects=0.0) for seed in range(10)]
    found = rates(pictures, [Reading(picture.background, ()) for picture in pictures])
    assert found["noun"].right == 0
    assert found["noun"].n == sum(len(picture.objects) for picture in pictures)
    assert found["background"].right == 10


def test_the_recipes_are_valid() -> None:
    for name in ("detector", "identity", "segmenter"):
        assert read_recipe(name, RECIPES).loop.steps > 500
