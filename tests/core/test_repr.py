"""What public objects print: a line each, without modules, tensors or numbers by the thousand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import weft
from weft.testing import random_pipeline


def test_a_pipeline_a_result_and_a_view_are_a_line_each() -> None:
    pipe = random_pipeline()
    assert repr(pipe) == f"<Pipeline '{pipe.name}': sd1, 32 x 32, float32 on cpu>"
    result = pipe.generate([weft.Scene("a toy"), weft.Scene("a star")], steps=1, seeds=[3, 4])
    assert repr(result) == f"<Result: 4 images of 32 x 32; scenes 2, seeds 2, model '{pipe.name}'>"
    view = pipe.view((32, 64))
    assert repr(view) == "<ModelView: sd1, 64 x 32, torch.float32 on cpu>"
    for one in (result.settings, result.trace[0], weft.AttendAndExcite(), weft.Scene("a toy")):
        assert "\n" not in repr(one)
        assert len(repr(one)) < 2000


@pytest.mark.parametrize("numbers", [np.zeros((640, 480)), torch.zeros(640, 480)])
def test_numbers_in_the_place_of_an_image_are_told_in_a_line(numbers) -> None:
    with pytest.raises(weft.UserError) as refused:
        weft.Subject("toy", mask=numbers)
    kind = type(numbers).__module__
    assert str(refused.value) == (
        "Subject 'toy', field 'mask': expected a path or an open image, "
        f"found {kind} numbers of shape (640, 480). PIL.Image.fromarray makes an image of numbers."
    )


def test_other_fields_that_are_wrong_are_counted_once() -> None:
    with pytest.raises(weft.UserError, match=r"found 3\. 1 more field\(s\) are wrong\."):
        weft.Subject("toy", mask=3, style=4)
