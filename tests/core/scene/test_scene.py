"""Scenes: what is accepted, and the one sentence that refuses the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import weft
from weft.core.provenance.run_file_writer import scene_settings
from weft.core.scene import ImageSource, locate
from weft.core.scene.fields import Keys
from weft.core.scene.images import SpatialImage, map_images
from weft.core.scene.reading import scene_data, unread


@weft.record
class Inner:
    depth: SpatialImage
    note: str = "n.png"


@weft.record
class Outer:
    maps: Mapping[str, tuple[ImageSource, ...] | ImageSource]
    inner: Inner | None = None


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
            ["'toy'", "'box.2'", "at most 1", "1.2"],
        ),
        (lambda: weft.Subject("toy", box=(0.0, 0.0, 1.0)), ["'toy'", "box", "a value", "none"]),
        (lambda: weft.Subject("toy", box=(0.2, 0.2, 0.2, 0.4)), ["'toy'", "left < right"]),
        (lambda: weft.Subject("toy", box=(0.0, 0.0, float("nan"), 1.0)), ["'toy'", "'box.2'", "nan"]),
        (lambda: weft.Subject("toy", keypoints={"nose": (0.5, 1.5)}), ["'toy'", "'keypoints.nose.1'", "1.5"]),
        (lambda: weft.Subject(""), ["'phrase'", "text that is not empty"]),
        (lambda: weft.Subject("toy", images=[3]), ["'toy', field 'images.0': expected a path, found 3."]),
        (lambda: weft.Subject("toy", occurrence="one"), ["expected a whole number, found 'one'"]),
        (lambda: weft.Subject(), ["Subject, field 'phrase': expected a value, found none."]),
        (
            lambda: weft.Subject("toy", (), None, None, None, None, {}, 8),
            ["field '7'", "keypoints, found '7'"],
        ),
        (
            lambda: weft.Scene("a toy", ["toy"]),
            ["'a toy', field 'subjects.0': expected a Subject, found 'toy'"],
        ),
        (lambda: weft.Subject("toy", imgs=[]), ["imgs", "images"]),
        (lambda: weft.Subject("toy", occurrence=0), ["'occurrence'", "at least 1"]),
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


def test_every_image_is_listed_once_with_its_place() -> None:
    toy = weft.Subject("toy", images=["a.png", "b.png"], mask="mask.png", style="style.png")
    scene = weft.Scene("a toy", [toy], {"edges": "edges.png"}, source="source.png", edit_mask="part.png")
    assert [(str(one.source), one.place, one.spatial) for one in scene.images()] == [
        ("a.png", "subject 'toy', field 'images'", False),
        ("b.png", "subject 'toy', field 'images'", False),
        ("mask.png", "subject 'toy', field 'mask'", True),
        ("style.png", "subject 'toy', field 'style'", False),
        ("edges.png", "scene, field 'maps.edges'", True),
        ("source.png", "scene, field 'source'", True),
        ("part.png", "scene, field 'edit_mask'", True),
    ]
    assert weft.Scene("a toy", [weft.Subject("toy", box=(0, 0, 1, 1))]).images() == ()


def test_mapped_images_stand_in_their_places_and_the_rest_stays() -> None:
    toy = weft.Subject("toy", ["a.png", "b.png"], (0, 0, 0.5, 1), keypoints={"nose": (0.5, 0.2)})
    scene = weft.Scene("a toy", [toy], {"edges": "edges.png"})
    moved = scene.map_images(lambda image: Path("far") / image.source)
    assert moved.subjects[0].images == (Path("far/a.png"), Path("far/b.png"))
    assert moved.maps == {"edges": Path("far/edges.png")}
    assert moved.map_images(lambda image: Path(image.source.name)) == scene


def test_a_field_may_hold_images_in_any_shape() -> None:
    """A record that is not there yet: several images under a name, a record within a record."""

    def upper(name: str, keys: Keys, spatial: bool) -> str:
        return f"{name.upper()} {'.'.join(map(str, keys))} {spatial}"

    data = {"maps": {"a": ["x", "y"], "b": "z"}, "inner": {"depth": "d", "note": "n"}, "other": "o"}
    assert map_images(Outer, data, upper) == {
        "maps": {"a": ["X maps.a.0 False", "Y maps.a.1 False"], "b": "Z maps.b False"},
        "inner": {"depth": "D inner.depth True", "note": "n"},
        "other": "o",
    }
    assert map_images(Outer, {"maps": 3, "inner": "i"}, upper) == {"maps": 3, "inner": "i"}


@weft.record
class Later(weft.Scene):
    """A scene as a later version may have it.

    Args:
        depths: images of depth.
        weight: of them.
    """

    depths: tuple[SpatialImage, ...] = ()
    weight: float = 1.0


def test_a_new_field_reaches_images_run_files_and_warnings() -> None:
    scene = Later("a toy", maps={"edges": "edges.png"}, depths=["near.png", "far.png"])
    assert [(str(one.source), one.place) for one in scene.images()] == [
        ("edges.png", "scene, field 'maps.edges'"),
        ("near.png", "scene, field 'depths'"),
        ("far.png", "scene, field 'depths'"),
    ]
    assert scene_settings(scene, str) == {
        "prompt": "a toy",
        "maps": {"edges": "edges.png"},
        "depths": ["near.png", "far.png"],
    }
    assert list(scene_data(scene)) == [("maps.edges", ("maps", "edges")), ("depths", ("depths",))]
    assert list(unread(scene, [frozenset({"maps"})])) == [("depths", ("depths",))]


@pytest.mark.parametrize(
    ("prompt", "phrase", "occurrence", "span"),
    [
        ("a toy and a Toy", "toy", 2, (12, 15)),
        ("a red  star", "red star", None, (2, 11)),
        ("starfish and a star", "star", None, (15, 19)),
        ("a toy, on grass", "toy", None, (2, 5)),
        ("一只猫和一只狗", "猫", None, (2, 3)),
        ("一只猫和一只狗", "一只狗", None, (4, 7)),
        ("猫と犬", "猫", None, (0, 1)),
        ("一只cat和dog", "cat", None, (2, 5)),
        ("แมวกับหมา", "หมา", None, (6, 9)),
        ("고양이와 개", "고양이", None, (0, 3)),
        ("a caf\u00e9 at night", "cafe\u0301", None, (2, 6)),
        ("a cafe\u0301 at night", "caf\u00e9", None, (2, 7)),
        ("a cafe\u0301 and a cafe", "cafe", None, (14, 18)),
        ("Ünder über", "u\u0308ber", None, (6, 10)),
        ("a T-shirt", "t-shirt", None, (2, 9)),
    ],
)
def test_locate_finds_whole_words(prompt, phrase, occurrence, span) -> None:
    assert locate(prompt, phrase, occurrence) == span
