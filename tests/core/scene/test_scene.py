"""Scenes: what is accepted, and the one sentence that refuses the rest."""

from __future__ import annotations

import pytest

import weft
from weft.core.scene import locate


def test_positional_and_defaults() -> None:
    scene = weft.Scene("a toy and a red star on grass", [weft.Subject("toy", images=["toy.png"])])
    assert scene.subject("toy").images[0].name == "toy.png"
    assert scene.subject("toy").box is None
    assert scene.maps == {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: weft.Subject("toy", box=(0.5, 0.0, 0.2, 1.0)),
            ["'toy'", "'box'", "left < right", "(0.5, 0.0, 0.2, 1.0)"],
        ),
        (
            lambda: weft.Subject("toy", box=(0.0, 0.0, 1.2, 1.0)),
            ["'toy'", "'box.2'", "less than or equal to 1", "1.2"],
        ),
        (lambda: weft.Subject("toy", box=(0.0, 0.0, 1.0)), ["'toy'", "box", "a value", "none"]),
        (lambda: weft.Subject("toy", box=(0.2, 0.2, 0.2, 0.4)), ["'toy'", "left < right"]),
        (lambda: weft.Subject("toy", box=(0.0, 0.0, float("nan"), 1.0)), ["'toy'", "'box.2'", "nan"]),
        (lambda: weft.Subject("toy", keypoints={"nose": (0.5, 1.5)}), ["'toy'", "'keypoints.nose.1'", "1.5"]),
        (lambda: weft.Subject(""), ["'phrase'", "at least 1 character"]),
        (lambda: weft.Subject("toy", imgs=[]), ["imgs", "images"]),
        (lambda: weft.Subject("toy", occurrence=0), ["'occurrence'", "greater than or equal to 1"]),
        (
            lambda: weft.Scene("a toy", [weft.Subject("cat")]),
            ["'cat'", "'phrase'", "words of the prompt", "'a toy'"],
        ),
        (lambda: weft.Scene("a red star", [weft.Subject("red sta")]), ["Did you mean 'red star'?"]),
        (
            lambda: weft.Scene("a toy and a toy", [weft.Subject("toy")]),
            ["occurrence from 1 to 2", "more than once"],
        ),
        (
            lambda: weft.Scene("a toy", [weft.Subject("toy", occurrence=2)]),
            ["'occurrence'", "at most 1", "2"],
        ),
        (lambda: weft.Scene("a toy", [weft.Subject("toy")]).subject("cat"), ["['toy']", "'cat'"]),
    ],
)
def test_refusals_name_place_expected_and_found(make, words) -> None:
    with pytest.raises(weft.UserError) as refused:
        make()
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("prompt", "phrase", "occurrence", "span"),
    [
        ("a toy and a Toy", "toy", 2, (12, 15)),
        ("a red  star", "red star", None, (2, 11)),
        ("starfish and a star", "star", None, (15, 19)),
        ("a toy, on grass", "toy", None, (2, 5)),
    ],
)
def test_locate_finds_whole_words(prompt, phrase, occurrence, span) -> None:
    assert locate(prompt, phrase, occurrence) == span
