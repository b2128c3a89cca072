"""The procedural world: what it draws, what it says, and what it keeps from training."""

import re
from collections import Counter

import numpy as np
import pytest

from weft.zoo.world import (
    BACKGROUND_PHRASES,
    BACKGROUNDS,
    COLORS,
    HELD_OUT_SUBJECTS,
    HELD_OUT_TRIPLES,
    NOUNS,
    PATTERNS,
    RELATIONS,
    TRAIN_SUBJECTS,
    Picture,
    Thing,
    compose,
    describe,
    portrait,
    sample,
    subject,
)

_OBJECT = re.compile(rf"\b(an?) ((?:\w+ )*?)({'|'.join(NOUNS)})\b")
_RELATION = re.compile(rf"(an? [\w ]+?) ({'|'.join(RELATIONS)}) (an? [\w ]+)$")
_LEAD_IN = re.compile(r"^(a picture of|a drawing of|there is|here is) ")


def _without_background(text: str, background: str) -> str:
    for words in sorted(BACKGROUND_PHRASES[background], key=len, reverse=True):
        text = text.removeprefix(f"{words}, ").removesuffix(f" {words}")
    return _LEAD_IN.sub("", text)


def _spoken(text: str) -> list[tuple[str | None, str | None, str]]:
    """(pattern, color, noun) of every object of a caption; every adjective must be known and in its place."""
    found = []
    for article, adjectives, noun in _OBJECT.findall(text):
        words = adjectives.split()
        pattern = words.pop(0) if words and words[0] in PATTERNS else None
        color = words.pop(0) if words and words[0] in COLORS else None
        assert not words, text
        assert (article == "an") == ((pattern or color or noun)[0] in "aeiou"), text
        found.append((pattern, color, noun))
    return found


def _meant(thing: Thing) -> tuple[str | None, str | None, str]:
    return (None if thing.pattern in (None, "plain") else thing.pattern, thing.color, thing.noun)


def _tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _shared(one: Thing, other: Thing) -> float:
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    return max(width, 0) * max(height, 0)


def _area(thing: Thing) -> float:
    return (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])


def test_a_picture_depends_on_its_arguments_alone() -> None:
    np.random.seed(0)
    first = [sample(seed, "held_out") for seed in range(20)]
    images = [picture.image() for picture in first]
    np.random.seed(1)
    for seed in reversed(range(20)):
        again = sample(seed, "held_out")
        assert again == first[seed]
        assert again.caption(3) == first[seed].caption(3)
        np.testing.assert_array_equal(again.image(), images[seed])
    assert len({image.tobytes() for image in images}) == 20


def test_images_have_the_size_asked_for_and_show_the_same_scene() -> None:
    picture = sample(4, count=3)
    small, large = picture.image(), picture.image(128)
    assert small.shape == (64, 64, 3)
    assert small.dtype == np.uint8
    assert large.shape == (128, 128, 3)
    assert picture.masks(128).shape == (3, 128, 128)
    halved = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 4
    assert picture.image(50).shape == (50, 50, 3)


@pytest.mark.parametrize("size", [64, 128])
def test_masks_and_boxes_agree_exactly(size: int) -> None:
    checked = 0
    for seed in range(150):
        picture = sample(seed, subjects=0.4)
        masks = picture.masks(size)
        assert masks.sum(axis=0).max() <= 1
        for thing, mask in zip(picture.objects, masks, strict=True):
            if all(_shared(thing, other) == 0 for other in picture.objects if other is not thing):
                assert _tight_box(mask) == tuple(side * size for side in thing.box)
                checked += 1
    assert checked > 150


def test_masks_cover_what_differs_from_the_empty_background() -> None:
    for seed in range(40):
        picture = sample(seed)
        empty = Picture(picture.background, (), picture.seed).image().astype(int)
        changed = np.abs(picture.image().astype(int) - empty).max(axis=2) > 2
        assert not (changed & ~picture.masks().any(axis=0)).any()


def test_boxes_overlap_by_at_most_a_twentieth_of_the_smaller() -> None:
    for seed in range(200):
        things = sample(seed, count=4).objects
        for i, one in enumerate(things):
            for other in things[:i]:
                assert _shared(one, other) <= 0.05 * min(_area(one), _area(other)) + 1e-9


def test_the_number_of_objects_follows_its_probabilities() -> None:
    counts = Counter(len(sample(seed).objects) for seed in range(2000))
    for number, share in {1: 0.4, 2: 0.35, 3: 0.15, 4: 0.1}.items():
        assert abs(counts[number] / 2000 - share) < 0.04
    assert {len(sample(seed, count=3).objects) for seed in range(20)} == {3}


def test_training_never_sees_what_is_held_out() -> None:
    reserved = set(HELD_OUT_TRIPLES)
    assert 0.07 < len(reserved) / (len(NOUNS) * len(COLORS) * len(BACKGROUNDS)) < 0.13
    seen: Counter[str] = Counter()
    for seed in range(2000):
        picture = sample(seed)
        for thing in picture.objects:
            if thing.subject is None:
                assert thing.color is not None
                assert (thing.noun, thing.color, picture.background) not in reserved
                seen.update([f"{thing.noun} {thing.color}", f"{thing.noun} on {picture.background}"])
            else:
                assert thing.subject in TRAIN_SUBJECTS
    assert {f"{noun} {color}" for noun in NOUNS for color in COLORS} <= set(seen)
    assert {f"{noun} on {background}" for noun in NOUNS for background in BACKGROUNDS} <= set(seen)


def test_held_out_pictures_begin_with_a_reserved_object() -> None:
    for seed in range(300):
        picture = sample(seed, "held_out", subjects=0.5)
        first = picture.objects[0]
        assert (first.noun, first.color, picture.background) in HELD_OUT_TRIPLES
        assert all(thing.subject is None or thing.subject in HELD_OUT_SUBJECTS for thing in picture.objects)


def test_captions_name_exactly_the_objects_with_their_adjectives() -> None:
    for seed in range(1500):
        picture = sample(seed)
        text = picture.caption(seed % 7)
        assert text == text.lower()
        spoken = _spoken(_without_background(text, picture.background))
        assert Counter(spoken) == Counter(_meant(thing) for thing in picture.objects), text


def test_captions_state_only_true_relations() -> None:
    stated: Counter[str] = Counter()
    for seed in range(1500):
        picture = sample(seed)
        text = _without_background(picture.caption(1), picture.background)
        if not any(relation in text for relation in RELATIONS):
            continue
        match = _RELATION.search(text.split(", ")[-1].removeprefix("and "))
        assert match is not None, text
        by_words = {_meant(thing): thing.box for thing in picture.objects}
        one, other = by_words[_spoken(match[1])[0]], by_words[_spoken(match[3])[0]]
        dx, dy = (other[0] + other[2] - one[0] - one[2]) / 2, (other[1] + other[3] - one[1] - one[3]) / 2
        gap = max(one[0], other[0]) - min(one[2], other[2])
        truths = {
            "left of": dx > 0.1,
            "right of": dx < -0.1,
            "above": dy > 0.1,
            "below": dy < -0.1,
            "next to": gap < 0.2,
        }
        assert truths[match[2]], text
        stated[match[2]] += 1
    assert set(stated) == set(RELATIONS)


def test_captions_vary_and_leave_the_background_out_at_times() -> None:
    picture = sample(2, count=2)
    texts = [picture.caption(seed) for seed in range(400)]
    assert len(set(texts)) > 20
    bare = sum(not any(words in text for words in BACKGROUND_PHRASES[picture.background]) for text in texts)
    assert 0.04 < bare / 400 < 0.17


def test_describe_is_the_plainest_caption() -> None:
    things = [("star", "red", "plain", None, None), ("car", "blue", "striped", None, None)]
    assert describe("grass", things) == "a red star and a striped blue car on grass"
    assert (
        describe("night", compose("night", things, 0).objects) == "a red star and a striped blue car at night"
    )
    assert describe(None, [("umbrella", "orange", None)]) == "an orange umbrella"
    assert describe("brick", [("toy", None, None), *things]).startswith(
        "a toy, a red star and a striped blue car in"
    )


def test_compose_fills_the_boxes_given() -> None:
    left, right = (0.0625, 0.25, 0.4375, 0.75), (0.5625, 0.25, 0.9375, 0.75)
    individual = next(number for number in HELD_OUT_SUBJECTS if subject(number).noun == "toy")
    picture = compose(
        "grass", [("toy", None, None, left, individual), ("star", "red", "plain", right, None)], 0
    )
    assert [thing.box for thing in picture.objects] == [left, right]
    assert [_tight_box(mask) for mask in picture.masks()] == [(4, 16, 28, 48), (36, 16, 60, 48)]
    free = compose("grass", [("star", "red", None, None, None), ("car", "blue", None, left, None)], 1)
    assert _shared(*free.objects) <= 0.05 * min(map(_area, free.objects))


@pytest.mark.parametrize(
    ("background", "thing", "words"),
    [
        ("lava", ("star", "red", None, None, None), "background 'lava'"),
        ("grass", ("dog", "red", None, None, None), "noun 'dog'"),
        ("grass", ("star", "beige", None, None, None), "color 'beige'"),
        ("grass", ("star", "red", "tartan", None, None), "pattern 'tartan'"),
        ("grass", ("star", "red", None, (0.5, 0.1, 0.4, 0.9), None), "box"),
    ],
)
def test_compose_refuses_what_the_world_does_not_have(background: str, thing: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compose(background, [thing], 0)


def test_sample_refuses_other_splits_and_counts() -> None:
    with pytest.raises(ValueError, match="split 'test'"):
        sample(0, "test")
    with pytest.raises(ValueError, match="count 5"):
        sample(0, count=5)


def test_subjects_differ_from_each_other_at_twenty_pixels() -> None:
    numbers = [*TRAIN_SUBJECTS, *HELD_OUT_SUBJECTS]
    assert len({subject(number) for number in numbers}) == len(numbers)
    whole = (0.0, 0.0, 1.0, 1.0)
    toys = [number for number in numbers if subject(number).noun == "toy"][:120]
    images = np.stack(
        [
            Picture("snow", (Thing("toy", None, None, whole, number),), 0).image(20).astype(float)
            for number in toys
        ]
    )
    distances = np.abs(images[:, None] - images[None]).mean(axis=(2, 3, 4))
    assert np.median(distances) > 30
    assert distances[~np.eye(len(toys), dtype=bool)].min() > 6


def test_a_portrait_shows_its_subject_alone_and_large() -> None:
    for seed in range(20):
        picture = portrait(seed, seed, size=96, background="sand" if seed % 2 else None)
        assert [thing.subject for thing in picture.objects] == [seed]
        box = picture.objects[0].box
        assert 0.58 <= max(box[2] - box[0], box[3] - box[1]) <= 0.87
        assert picture.image().shape == (96, 96, 3)
        assert picture.background == "sand" or not seed % 2
    assert portrait(3, 0).objects != portrait(3, 1).objects


def test_every_object_stands_out_from_every_background() -> None:
    box = (0.25, 0.25, 0.75, 0.75)
    for background in BACKGROUNDS:
        for color in COLORS:
            picture = compose(background, [("star", color, "plain", box, None)], 0)
            empty = Picture(background, (), 0).image().astype(float)
            differs = np.abs(picture.image() - empty).max(axis=2)[picture.masks()[0]]
            assert np.quantile(differs, 0.9) > 55, (background, color)
