import pytest
from PIL import Image
from weft.plugin import Scene

from colourfulness import weft_metrics

METRIC = weft_metrics()["colourfulness"]


def test_grey_has_none_and_stripes_have_more_than_one_colour() -> None:
    grey, red, stripes = (Image.new("RGB", (8, 8), color) for color in ("grey", "red", "red"))
    stripes.paste("cyan", (0, 0, 8, 4))
    values = [METRIC.measure(image, Scene("a toy")) for image in (grey, red, stripes)]
    assert values[0] == 0.0
    assert values[1] == pytest.approx(0.3 * 1.25**0.5)  # one colour: no spread, the mean is (1, 0.5)
    assert values[2] == pytest.approx((1.0 + 0.25 + 0.5) ** 0.5, rel=0.2)
    assert all(METRIC.bounds[0] <= value <= METRIC.bounds[1] for value in values if value is not None)
