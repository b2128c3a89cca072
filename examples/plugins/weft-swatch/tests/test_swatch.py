import functools
from collections.abc import Callable

import pytest
import weft
from PIL import Image, ImageStat
from weft.plugin import Case, Plugin, Scene, Subject, parametrize_with_checks

from swatch import Swatch


def scene(color: str) -> Scene:
    image = Image.new("RGB", (32, 32), color)
    return Scene("a ball on grass", subjects=(Subject("ball", images=(image,)),))


@functools.cache
def tiny() -> weft.Pipeline:
    """The model that the weights are for, loaded once."""
    return weft.load("tiny", device="cpu")


@parametrize_with_checks([Swatch()], Case(pipeline=tiny, scene=scene("red")))
def test_contract(plugin: Plugin, check: Callable[[Plugin], None]) -> None:
    check(plugin)


def test_a_ball_takes_the_colour_of_its_image() -> None:
    def drawn(color: str) -> list[float]:
        result = tiny().generate(scene(color), [Swatch()], steps=8, seeds=range(4))
        means = [ImageStat.Stat(image).mean for image in result.images]
        return [sum(mean[channel] for mean in means) / len(means) for channel in range(3)]

    red, blue = drawn("red"), drawn("blue")
    assert red[0] - red[2] > blue[0] - blue[2] + 10.0


def test_a_scene_without_an_image_is_refused() -> None:
    with pytest.raises(weft.UserError, match="swatch: expected a subject with a reference image"):
        tiny().generate(Scene("a ball"), [Swatch()], steps=1)
