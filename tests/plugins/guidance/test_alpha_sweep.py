"""alpha_sweep: the pictures of each alpha, metrics, contact sheet and plot."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import weft
from weft.core.chart import COLORS, Line, _ticks, chart, contact_sheet
from weft.testing import SecondPrompt, random_pipeline

SCENE = weft.Scene("a toy and a red star on grass")
OPTIONS = {"steps": 2, "seeds": [4, 7], "conditioners": [SecondPrompt()]}
FUSING = weft.Fusing(conditioner="second_prompt")


def brightness(image) -> float:
    return float(np.asarray(image).mean())


@pytest.fixture(scope="module")
def sweep() -> weft.AlphaSweep:
    return weft.alpha_sweep(
        random_pipeline(),
        SCENE,
        alphas=[1.0, 0.0, 0.5],
        fusing=FUSING,
        metrics={"light": brightness, "dark": lambda image: -brightness(image)},
        **OPTIONS,
    )


def test_pictures_are_those_of_generate(sweep) -> None:
    assert sweep.alphas == (0.0, 0.5, 1.0)
    for alpha, result in zip(sweep.alphas, sweep.results, strict=True):
        chain = [weft.Fusing(alpha, "second_prompt"), "classifier_free"]
        expected = random_pipeline().generate(SCENE, guidance=chain, **OPTIONS)
        assert torch.equal(result.latents, expected.latents)
    assert not torch.equal(sweep.results[0].latents, sweep.results[2].latents)


def test_metrics_are_of_every_picture(sweep) -> None:
    assert list(sweep.metrics) == ["light", "dark"]
    expected = [[brightness(image) for image in result.images] for result in sweep.results]
    assert [list(values) for values in sweep.metrics["light"]] == expected
    assert sweep.means("dark") == pytest.approx([-sum(values) / 2 for values in expected])


def test_sheet_holds_every_picture_in_its_place(sweep) -> None:
    sheet = np.asarray(sweep.sheet())
    tops = []
    for number in range(2):
        for column, result in enumerate(sweep.results):
            picture = np.asarray(result.images[number].resize((64, 64), 0))
            left = sheet.shape[1] - (3 - column) * 68
            rows = [
                y
                for y in range(sheet.shape[0] - 63)
                if (sheet[y : y + 64, left : left + 64] == picture).all()
            ]
            assert len(rows) == 1
            tops += rows
    assert tops == [tops[0]] * 3 + [tops[0] + 68] * 3
    assert (sheet[: tops[0]] < 100).any(), "the columns have no labels"
    assert (sheet[tops[0] :, : sheet.shape[1] - 3 * 68] < 100).any(), "the rows have no labels"


def test_sheet_of_several_scenes_names_them() -> None:
    pictures = [[brightness_picture(value)] for value in (10, 200)]
    wide = contact_sheet(pictures, ["alpha 0"], ["scene 1, seed 0", "scene 2, seed 0"])
    narrow = contact_sheet(pictures, ["alpha 0"], ["seed 0", "seed 0"])
    assert wide.width > narrow.width
    assert wide.height == narrow.height


def brightness_picture(value: int):
    from PIL import Image

    return Image.new("RGB", (64, 64), (value,) * 3)


def test_plot_has_a_panel_for_each_metric(sweep) -> None:
    plot = sweep.plot()
    one = chart([0.0, 1.0], [Line("a", [0.0, 1.0])], "alpha")
    assert plot.size == (one.width, 2 * one.height)
    bare = weft.AlphaSweep(sweep.alphas, sweep.results)
    with pytest.raises(weft.UserError, match="a metric and at least two alphas"):
        bare.plot()


def test_chart_draws_where_the_values_are() -> None:
    """A line that rises from corner to corner, and one that falls."""
    pixels = np.asarray(
        chart([0.0, 0.5, 1.0], [Line("up", [0.0, 1.0, 2.0]), Line("down", [2.0, 1.0, 0.0])], "x")
    ).astype(int)
    for color, sign in zip(COLORS, (-1, 1), strict=False):
        y, x = np.nonzero(np.abs(pixels - np.array(color)).sum(axis=2) < 60)
        y, x = y[y > 60], x[y > 60]  # below the legend
        assert len(x) > 200
        assert np.sign(np.corrcoef(x, y)[0, 1]) == sign


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 12.0), (0.30, 0.31), (5.0, 5.0), (0.0, 0.0)])
def test_ticks_are_round_and_enclose(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 8
    assert len({round(b - a, 9) for a, b in pairwise(ticks)}) == 1


def test_wrong_alphas_are_refused_before_anything_is_drawn() -> None:
    with pytest.raises(weft.UserError, match="alpha"):
        weft.alpha_sweep(None, SCENE, alphas=[0.5, 1.5])
    with pytest.raises(weft.UserError, match="at least one"):
        weft.alpha_sweep(None, SCENE, alphas=[])
