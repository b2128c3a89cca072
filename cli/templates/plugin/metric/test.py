import pytest
from PIL import Image
from weft.plugin import Scene

from {{ name }} import weft_metrics


@pytest.mark.parametrize(("color", "expected"), [("black", 0.0), ("white", 1.0)])
def test_values_lie_within_the_bounds(color: str, expected: float) -> None:
    metric = weft_metrics()["{{ name }}"]
    assert metric.measure(Image.new("RGB", (8, 8), color), Scene("a toy")) == expected
    assert metric.bounds[0] <= expected <= metric.bounds[1]
