"""What a model's files say of its noise schedule and its prediction is honoured, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import weft
from weft.core.api.schedulers import make_scheduler
from weft.core.checkpoints.noise_schedule import marked
from weft.core.runfile.read import runs_of
from weft.core.runfile.strict_yaml import FileErrors, parse_yaml
from weft.testing import random_model

CONFIG = "scheduler/scheduler_config.json"


@pytest.fixture
def folder(tmp_path) -> Path:
    return random_model(tmp_path / "model")


def change(folder: Path, drop: tuple[str, ...] = (), **values) -> None:
    config = {**json.loads((folder / CONFIG).read_text()), **values}
    (folder / CONFIG).write_text(
        json.dumps({name: value for name, value in config.items() if name not in drop})
    )


def named(folder: Path, name: str) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", name]}))


def test_absent_fields_mean_what_diffusers_pipeline_makes_of_them(folder) -> None:
    whole = weft.load(folder, device="cpu").generate("a red ball", steps=3)
    change(folder, drop=("clip_sample", "steps_offset", "prediction_type", "timestep_spacing"))
    assert torch.equal(weft.load(folder, device="cpu").generate("a red ball", steps=3).latents, whole.latents)


def test_a_folder_is_drawn_with_the_class_that_it_names(folder) -> None:
    pipe = weft.load(folder, device="cpu")
    assert pipe.generate("a red ball", steps=2).settings.sampler.scheduler == "ddim"  # for PNDM
    named(folder, "KDPM2DiscreteScheduler")
    own = weft.load(folder, device="cpu").generate("a red ball", steps=2)
    assert own.settings.sampler.scheduler == "kdpm2"
    assert torch.equal(own.latents, pipe.generate("a red ball", steps=2, scheduler="kdpm2").latents)


def test_a_class_of_another_process_is_refused_at_load_and_by_validate(folder) -> None:
    named(folder, "FlowMatchEulerDiscreteScheduler")
    with pytest.raises(weft.UserError, match=r"'_class_name': .*found 'FlowMatchEulerDiscreteScheduler'"):
        weft.load(folder)
    with pytest.raises(FileErrors, match="found 'FlowMatchEulerDiscreteScheduler'"):
        runs_of(parse_yaml(f"version: 1\nmodel: {folder}\nprompt: a toy\n", "run.yaml"), Path())


@pytest.mark.parametrize(("steps", "scheduler"), [(1000, "ddim"), (1000, "pndm")])
def test_more_steps_than_there_are_is_told_by_validate(steps: int, scheduler: str) -> None:
    text = f"version: 1\nmodel: tiny\nprompt: a toy\nsampler: {{steps: {steps}, scheduler: {scheduler}}}\n"
    with pytest.raises(FileErrors, match=r"run.yaml:4:18: expected at most 999, found 1000"):
        runs_of(parse_yaml(text, "run.yaml"), Path())
    assert runs_of(parse_yaml(text.replace("1000", "999"), "run.yaml"), Path())


def test_minus_infinity_is_read(folder) -> None:
    change(folder, lambda_min_clipped=float("-inf"))
    assert "-Infinity" in (folder / CONFIG).read_text()
    pipe = weft.load(folder, device="cpu")
    assert make_scheduler("dpmpp_2m", pipe.scheduler).config["lambda_min_clipped"] == float("-inf")
    change(folder, beta_end=float("inf"))
    with pytest.raises(weft.UserError, match="field 'beta_end'"):
        weft.load(folder)


@pytest.mark.parametrize(
    ("names", "metadata", "changed"),
    [
        ((), {}, {}),
        (("v_pred",), {}, {"prediction_type": "v_prediction"}),
        (
            ("v_pred", "ztsnr"),
            {},
            {
                "prediction_type": "v_prediction",
                "rescale_betas_zero_snr": True,
                "timestep_spacing": "trailing",
            },
        ),
        (("ztsnr",), {}, {}),
        ((), {"modelspec.prediction_type": "v"}, {"prediction_type": "v_prediction"}),
        ((), {"modelspec.prediction_type": "epsilon"}, {"prediction_type": "epsilon"}),
    ],
)
def test_marks_of_a_single_file(names, metadata, changed) -> None:
    schedule = {"prediction_type": "epsilon", "beta_end": 0.012}
    assert marked(schedule, names, metadata) == schedule | changed


def test_a_prediction_that_there_is_not_is_refused() -> None:
    with pytest.raises(weft.UserError, match=r"'modelspec.prediction_type': .* found 'flow'"):
        marked({}, (), {"modelspec.prediction_type": "flow"})
    with pytest.raises(weft.UserError, match="Did you mean 'v_prediction'"):
        weft.load("tiny", prediction_type="vprediction")


def test_prediction_type_goes_before_the_file(folder) -> None:
    plain = weft.load(folder, device="cpu").generate("a red ball", steps=3)
    said = weft.load(folder, device="cpu", prediction_type="v_prediction")
    drawn = said.generate("a red ball", steps=3)
    assert drawn.settings.loaded.prediction_type == "v_prediction"
    change(folder, prediction_type="v_prediction")
    assert torch.equal(weft.load(folder, device="cpu").generate("a red ball", steps=3).latents, drawn.latents)
    assert not torch.equal(plain.latents, drawn.latents)
