"""The world of artwork: what it draws, what it says, and what it keeps from training."""

import re
from collections import Counter

import numpy as np
import pytest

from weft.zoo.stickers import (
    BACKGROUND_PHRASES,
    BACKGROUNDS,
    CATEGORIES,
    COLORS,
    HELD_OUT_SUBJECTS,
    HELD_OUT_TRIPLES,
    NOUNS,
    RELATIONS,
    TINTED,
    TRAIN_SUBJECTS,
    Picture,
    Thing,
    compose,
    describe,
    portrait,
    sample,
    subject,
)
from weft.zoo.stickers.vocabulary import INDIVIDUALS, artworks, colors_of

_WORDS = "|".join(sorted((*NOUNS, *CATEGORIES), key=len, reverse=True))
_OBJECT = re.compile(rf"\b(an?|some) (?:({'|'.join(COLORS)}) )?({_WORDS})\b")
_RELATION = re.compile(rf"((?:an?|some) [\w ]+?) ({'|'.join(RELATIONS)}) ((?:an?|some) [\w ]+)$")
_LEAD_IN = re.compile(r"^(a picture of|a drawing of|there is|here is) ")


def _without_background(text: str, background: str) -> str:
    for words in sorted(BACKGROUND_PHRASES[background], key=len, reverse=True):
        text = text.removeprefix(f"{words}, ").removesuffix(f" {words}")
    return _LEAD_IN.sub("", text)


def _spoken(text: str) -> list[tuple[str | None, str]]:
    """(color, noun) of every object of a caption; the article must go with the word after it."""
    spoken = []
    for article, color, noun in _OBJECT.findall(text):
        vowel = (color or noun)[0] in "aeiou" and (color or noun) != "unicorn"
        assert article == ("some" if noun == "food" else "an" if vowel else "a"), text
        spoken.append((color or None, noun))
    return spoken


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
    small, large = picture.image(64), picture.image()
    assert large.shape == (128, 128, 3)
    assert large.dtype == np.uint8
    assert picture.masks().shape == (3, 128, 128)
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
    for seed in range(100):
        things = sample(seed, count=4).objects
        for i, one in enumerate(things):
            for other in things[:i]:
                assert _shared(one, other) <= 0.05 * min(_area(one), _area(other)) + 1e-9


def test_the_number_of_objects_follows_its_probabilities() -> None:
    counts = Counter(len(sample(seed).objects) for seed in range(1000))
    for number, share in {1: 0.4, 2: 0.35, 3: 0.15, 4: 0.1}.items():
        assert abs(counts[number] / 1000 - share) < 0.05
    assert {len(sample(seed, count=3).objects) for seed in range(20)} == {3}


def test_training_never_sees_what_is_held_out() -> None:
    reserved = set(HELD_OUT_TRIPLES)
    looks = sum(len(colors_of(noun)) for noun in NOUNS)
    assert 0.08 < len(reserved) / (looks * len(BACKGROUNDS)) < 0.12
    seen: set[str] = set()
    for seed in range(3000):
        picture = sample(seed)
        for thing in picture.objects:
            if thing.subject is None:
                assert (thing.noun, thing.color, picture.background) not in reserved
                seen.add(thing.noun)
            else:
                assert thing.subject in TRAIN_SUBJECTS
    assert seen == set(NOUNS)


def test_no_individual_of_training_shows_held_out_artwork() -> None:
    kept = {label for _, label in INDIVIDUALS["held_out"]}
    trained = {subject(number).art.split("/")[1] for number in TRAIN_SUBJECTS}
    assert kept.isdisjoint(trained)
    assert kept <= {subject(number).art.split("/")[1] for number in HELD_OUT_SUBJECTS}


def test_held_out_pictures_begin_with_a_reserved_object() -> None:
    for seed in range(200):
        picture = sample(seed, "held_out", subjects=0.5)
        first = picture.objects[0]
        assert (first.noun, first.color, picture.background) in HELD_OUT_TRIPLES
        assert all(thing.subject is None or thing.subject in HELD_OUT_SUBJECTS for thing in picture.objects)


def test_captions_name_exactly_the_objects_with_their_colors() -> None:
    for seed in range(1000):
        picture = sample(seed)
        text = picture.caption(seed % 7)
        assert text == text.lower()
        spoken = _spoken(_without_background(text, picture.background))
        assert Counter(spoken) == Counter((thing.color, thing.noun) for thing in picture.objects), text


def test_captions_state_only_true_relations() -> None:
    stated: Counter[str] = Counter()
    for seed in range(1000):
        picture = sample(seed)
        text = _without_background(picture.caption(1), picture.background)
        if not any(f" {relation} " in text for relation in RELATIONS):
            continue
        match = _RELATION.search(text.split(", ")[-1].removeprefix("and "))
        assert match is not None, text
        by_words = {(thing.color, thing.noun): thing.box for thing in picture.objects}
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


def test_no_phrase_stands_for_two_things_of_a_picture() -> None:
    for seed in range(500):
        things = sample(seed, count=4, subjects=0.4).objects
        assert len({(thing.noun, thing.color) for thing in things}) == 4
        for one in things:
            named = [thing for thing in things if thing.noun == one.noun]
            assert len(named) == 1 or all(thing.color for thing in named)


def test_describe_is_the_plainest_caption() -> None:
    things = [("star", "red", None, None), ("lion", None, None, None)]
    assert describe("grass", things) == "a red star and a lion on grass"
    assert describe("night", compose("night", things, 0).objects) == "a red star and a lion at night"
    assert describe(None, [("umbrella", "orange")]) == "an orange umbrella"
    assert (
        describe("brick", [("food", None), ("unicorn", None)])
        == "some food and a unicorn in front of a brick wall"
    )


def test_compose_fills_the_boxes_given() -> None:
    left, right = (0.0625, 0.25, 0.4375, 0.75), (0.5625, 0.25, 0.9375, 0.75)
    individual = next(number for number in HELD_OUT_SUBJECTS if subject(number).noun == "toy")
    picture = compose("grass", [("toy", None, left, individual), ("star", "red", right, None)], 0)
    assert [thing.box for thing in picture.objects] == [left, right]
    assert [_tight_box(mask) for mask in picture.masks()] == [(8, 32, 56, 96), (72, 32, 120, 96)]
    free = compose("grass", [("star", "red", None, None), ("car", "blue", left, None)], 1)
    assert _shared(*free.objects) <= 0.05 * min(map(_area, free.objects))


@pytest.mark.parametrize(
    ("background", "thing", "words"),
    [
        ("lava", ("star", "red", None, None), "background 'lava'"),
        ("grass", ("wombat", None, None, None), "noun 'wombat'"),
        ("grass", ("animal", None, None, None), "noun 'animal'"),
        ("grass", ("star", "beige", None, None), "color 'beige'"),
        ("grass", ("lion", "red", None, None), "a lion has no color"),
        ("grass", ("star", "red", (0.5, 0.1, 0.4, 0.9), None), "box"),
        ("grass", ("robot", None, None, 0), "subject 0"),
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


def test_there_are_enough_words_and_individuals() -> None:
    assert len(NOUNS) >= 120
    assert len(BACKGROUNDS) >= 8
    assert len(HELD_OUT_SUBJECTS) >= 300
    assert set(TINTED) < set(NOUNS)
    assert len(artworks()) == len(set(artworks()))
    numbers = [*TRAIN_SUBJECTS, *HELD_OUT_SUBJECTS]
    assert len({subject(number) for number in numbers}) == len(numbers)
    assert {subject(number).noun for number in numbers} == {*NOUNS, *CATEGORIES}


def test_individuals_of_one_word_look_different() -> None:
    whole = (0.0, 0.0, 1.0, 1.0)
    animals = [number for number in HELD_OUT_SUBJECTS if subject(number).noun == "animal"][:80]
    images = np.stack(
        [
            Picture("snow", (Thing("animal", None, whole, number),), 0).image(32).astype(float)
            for number in animals
        ]
    )
    distances = np.abs(images[:, None] - images[None]).mean(axis=(2, 3, 4))
    assert distances[~np.eye(len(animals), dtype=bool)].min() > 2


def test_a_portrait_shows_its_subject_alone_and_large() -> None:
    for seed in range(20):
        picture = portrait(seed, seed, size=96, background="sand" if seed % 2 else None)
        assert [thing.subject for thing in picture.objects] == [seed]
        box = picture.objects[0].box
        assert 0.58 <= max(box[2] - box[0], box[3] - box[1]) <= 0.87
        assert picture.image().shape == (96, 96, 3)
        assert picture.background == "sand" or not seed % 2
    assert portrait(3, 0).objects != portrait(3, 1).objects


def test_a_tint_gives_the_color_that_its_word_says() -> None:
    box = (0.125, 0.125, 0.875, 0.875)
    for noun in ("star", "umbrella", "cat", "book", "ghost"):
        for color, wanted in COLORS.items():
            picture = compose("grass", [(noun, color, box, None)], 0)
            pixels = picture.image()[picture.masks()[0]].astype(float)
            near = np.abs(pixels - wanted).max(axis=1) < 60
            assert near.mean() > 0.3, (noun, color)
