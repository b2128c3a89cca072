"""weft.sweep: the images of each point, metrics, contact sheet and plot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import weft
from weft.core.api.metric import Metric
from weft.core.api.registry import registry
from weft.core.runfile.sweep import MAX_VARIANTS
from weft.testing import SecondPrompt, random_pipeline

SCENE = weft.Scene("a toy and a red star on grass")
OPTIONS = {"steps": 2, "seeds": [4, 7], "conditioners": [SecondPrompt()]}
FUSING = weft.Fusing(conditioner="second_prompt")


def brightness(image, scene) -> float:
    return float(np.asarray(image).mean())


@pytest.fixture(scope="module")
def sweep() -> weft.Sweep:
    return weft.sweep(
        random_pipeline(),
        SCENE,
        {"guidance.0.alpha": [0, 0.5, 1]},
        guidance=[FUSING, "classifier_free"],
        metrics={"light": brightness, "dark": lambda image, scene: -brightness(image, scene)},
        **OPTIONS,
    )


def test_images_are_those_of_generate(sweep) -> None:
    assert sweep.points == tuple({"guidance.0.alpha": alpha} for alpha in (0, 0.5, 1))
    for alpha, result in zip((0.0, 0.5, 1.0), sweep.results, strict=True):
        chain = [weft.Fusing(alpha, "second_prompt"), "classifier_free"]
        expected = random_pipeline().generate(SCENE, guidance=chain, **OPTIONS)
        assert torch.equal(result.latents, expected.latents)
    assert not torch.equal(sweep.results[0].latents, sweep.results[2].latents)


def test_metrics_are_of_every_image(sweep) -> None:
    assert list(sweep.metrics) == ["light", "dark"]
    expected = [[brightness(image, SCENE) for image in result.images] for result in sweep.results]
    assert [list(values) for values in sweep.metrics["light"]] == expected
    means = [mean for _, mean, _ in sweep.means("dark")]
    assert means == pytest.approx([-sum(values) / 2 for values in expected])
    assert all(low <= mean <= high for low, mean, high in sweep.means("light"))


def test_the_sheet_holds_every_image_in_its_place(sweep) -> None:
    pixels = np.asarray(sweep.sheet())
    lefts, tops = [], []
    for result in sweep.results:
        for image in result.images:
            wanted = np.asarray(image.resize((192, 192), Image.Resampling.LANCZOS))
            corners = np.argwhere((pixels == wanted[0, 0]).all(axis=-1))
            places = [(y, x) for y, x in corners if np.array_equal(pixels[y : y + 192, x : x + 192], wanted)]
            assert len(places) == 1
            tops.append(places[0][0])
            lefts.append(places[0][1])
    assert lefts == lefts[:2] * 3
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4] == tops[5]
    assert (pixels[: tops[0]] < 100).any(), "the rows have no labels"
    assert (pixels[tops[0] + 192 : tops[2]] < 100).any(), "the images have no captions"


def test_the_sheet_of_one_seed_has_the_values_along_a_row(sweep) -> None:
    alone = weft.sweep(random_pipeline(), SCENE, {"sampler.steps": [1, 2]}, guidance=[])
    assert alone.sheet().width > 2 * 192 > alone.sheet().height - 192


def test_the_plot_has_a_panel_for_each_metric(sweep) -> None:
    plot = sweep.plot()
    one = weft.Sweep(sweep.points, sweep.results, {"light": sweep.metrics["light"]}).plot()
    assert plot.size == (2 * one.width, one.height)
    with pytest.raises(weft.UserError, match="a sweep with metrics"):
        weft.Sweep(sweep.points, sweep.results, {}).plot()


def test_settings_of_every_kind_are_swept_together() -> None:
    """The prompt and the phrase in it change in one go; the last setting runs fastest."""
    scene = weft.Scene("a red star", [weft.Subject("star", box=(0, 0, 0.5, 0.5))])
    swept = weft.sweep(
        random_pipeline(),
        scene,
        {
            "prompt": ["a red star", "a moon"],
            "subjects.0.phrase": ["a"],
            "sampler.steps": [1, 2],
            "guidance.0.scale": [3.0],
        },
        seeds=[5],
    )
    assert [(one["prompt"], one["sampler.steps"]) for one in swept.points] == [
        ("a red star", 1), ("a red star", 2), ("a moon", 1), ("a moon", 2),
    ]  # fmt: skip
    moon = weft.Scene("a moon", [weft.Subject("a", box=(0, 0, 0.5, 0.5))])
    assert swept.results[3].samples[0].scene == moon
    expected = random_pipeline().generate(moon, guidance=[weft.ClassifierFree(3.0)], steps=2, seeds=[5])
    assert torch.equal(swept.results[3].latents, expected.latents)


def test_a_whole_chain_can_be_a_value() -> None:
    chains = [["classifier_free"], [weft.ClassifierFree(1.0)], []]
    swept = weft.sweep(random_pipeline(), [SCENE, SCENE], {"guidance": chains}, steps=1, seeds=[1, 2])
    assert torch.equal(swept.results[1].latents, swept.results[2].latents)
    assert not torch.equal(swept.results[0].latents, swept.results[1].latents)
    assert [(one.scene, one.seed) for one in swept.entries()[:4]] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_installed_metrics_are_called_by_name(monkeypatch) -> None:
    def broken(image, scene) -> float:
        raise RuntimeError("no luck")

    known = {"light": Metric("how light", brightness), "broken": Metric("raises", broken)}
    monkeypatch.setattr(type(registry()), "metrics", lambda self: known)
    monkeypatch.setattr(type(registry()), "metric", lambda self, name: known.get(name))
    swept = weft.sweep(random_pipeline(), SCENE, {"sampler.steps": [1]}, metrics=["light"])
    assert swept.metrics == {"light": ((brightness(swept.results[0].images[0], SCENE),),)}
    with pytest.raises(
        weft.PluginError, match="'broken', measuring the image of seed 0: RuntimeError: no luck"
    ):
        weft.sweep(random_pipeline(), SCENE, {"sampler.steps": [1]}, metrics=["broken"])
    with pytest.raises(weft.UserError, match="Did you mean 'light'"):
        weft.sweep(random_pipeline(), SCENE, {"sampler.steps": [1]}, metrics=["ligth"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance.0.alpha": [0.5, 1.5]}, "alpha"),
        ({"guidance.0.alpha": []}, "a list of values"),
        ({"sampler.scheduler": "euler"}, "a list of values"),
        ({"guidance.1.alpha": [0.5]}, "'guidance.1': expected the path of a setting"),
        ({"guidance.0.alhpa": [0.5]}, "Did you mean 'alpha'"),
        ({"seeds": [[1], [2]]}, "'seeds': expected the path of a setting"),
        ({"sampler.steps": [0]}, "steps"),
        ({"subjects.0.box": [None]}, "'subjects.0'"),
        ({}, "a mapping"),
        ({"guidance.0.alpha": [0.5] * (MAX_VARIANTS + 1)}, f"at most {MAX_VARIANTS} combinations"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_drawn(settings, message, monkeypatch) -> None:
    monkeypatch.delattr(weft.Pipeline, "generate")
    with pytest.raises(weft.UserError, match=message):
        weft.sweep(random_pipeline(), SCENE, settings, guidance=[weft.Fusing()])
