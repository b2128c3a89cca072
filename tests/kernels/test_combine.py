"""Combining predictions and stepping: diffusers' own schedulers are the oracle, at every timestep."""

from __future__ import annotations

import dataclasses
from typing import Any

import diffusers
import pytest
import torch

from weft.core.sampling.fused_updates import updates
from weft.kernels.combine import Update, combine_and_step, reference
from weft.kernels.combine.call import Call
from weft.kernels.errors import KernelError

SD1 = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m, small last sigma": (diffusers.DPMSolverMultistepScheduler, {"final_sigmas_type": "sigma_min"}),
    "dpmpp_2m, karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler, trailing": (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
}
COEFFICIENTS = (7.5, -2.0)


def scheduler(name: str, **more: Any) -> Any:
    kind, settings = SCHEDULERS[name]
    return kind(**{**SD1, **settings, **more})


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_equals_diffusers_at_every_timestep(name: str, steps: int, prediction: str) -> None:
    """First and last steps too, which DPM-Solver++ takes at first order."""
    theirs = scheduler(name, prediction_type=prediction)
    theirs.set_timesteps(steps)
    planned = updates(theirs)
    assert planned is not None
    assert len(planned) == len(theirs.timesteps)
    assert {update.kind for update in planned} == {name.split(",")[0]}
    x = normal(2, 4, 5, 6) * theirs.init_noise_sigma
    before = None
    for index, (timestep, update) in enumerate(zip(theirs.timesteps, planned, strict=True)):
        first, second, last = (normal(2, 4, 5, 6, seed=10 * index + i) for i in range(1, 4))
        guided = last + 7.5 * (first - last) - 2.0 * (second - last)
        theirs.scale_model_input(x, timestep)
        expected = theirs.step(guided, timestep, x, return_dict=False)[0]
        found, before, faults = combine_and_step([first, second, last], COEFFICIENTS, x, update, before)
        error = float((found - expected).abs().max())
        assert error <= 1e-6 * max(1.0, float(expected.abs().max())), (index, error)
        assert int(faults.sum()) == 0
        x = expected


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (diffusers.DDIMScheduler, {"clip_sample": True}),
        (diffusers.DDIMScheduler, {"clip_sample": False, "thresholding": True}),
        (diffusers.DDIMScheduler, {"clip_sample": False, "prediction_type": "sample"}),
        (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
        (diffusers.DPMSolverMultistepScheduler, {"solver_order": 3}),
        (diffusers.DPMSolverMultistepScheduler, {"solver_type": "heun"}),
        (diffusers.EulerAncestralDiscreteScheduler, {}),
        (diffusers.PNDMScheduler, {}),
        (diffusers.UniPCMultistepScheduler, {}),
    ],
)
def test_what_is_no_linear_step_of_these_kinds_is_left_to_the_scheduler(kind, settings) -> None:
    theirs = kind(**{**SD1, **settings})
    theirs.set_timesteps(10)
    assert updates(theirs) is None


DDIM = Update("ddim", 1.0, 0.6, 0.8, 0.9, 0.4, 1.0)
VELOCITY = Update("ddim", 0.8, 0.6, 1.0, 0.9, 0.4, 0.8, 0.6)
EULER = Update("euler", 1.0, 2.0, 1.0, 2.0, -0.5)
DPM = Update("dpmpp_2m", 1.0, 0.6, 0.8, 0.9, -0.3, -0.15, 1.1)
UPDATES = {"ddim": DDIM, "velocity": VELOCITY, "euler": EULER, "dpmpp_2m": DPM}


@pytest.mark.parametrize("kind", UPDATES)
def test_gradients(kind: str) -> None:
    tensors = [normal(1, 2, 3, 2, seed=i).double().requires_grad_(True) for i in range(5)]

    def call(first, second, last, latents, before):
        moved, clean, _ = combine_and_step(
            [first, second, last], COEFFICIENTS, latents, UPDATES[kind], before
        )
        return moved if clean is None else (moved, clean)

    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", UPDATES)
def test_the_operator_is_registered_properly(kind: str) -> None:
    tensors = [normal(1, 2, 3, 2, seed=i).requires_grad_(True) for i in range(2)]
    latents = normal(1, 2, 3, 2, seed=7).requires_grad_(True)
    call = Call.of(tensors, [7.5], latents, UPDATES[kind], normal(1, 2, 3, 2, seed=8))
    torch.library.opcheck(torch.ops.weft.combine_and_step.default, call.arguments)


def test_the_schema_names_a_calls_fields_in_their_order() -> None:
    """The operator's arguments are packed by position."""
    found = [one.name for one in torch.ops.weft.combine_and_step.default._schema.arguments]
    assert found == [one.name for one in dataclasses.fields(Call)]


@pytest.mark.usefixtures("unchecked")
def test_compiles_to_one_graph() -> None:
    def call(first, last, latents, before):
        moved, clean, faults = combine_and_step([first, last], [3.0], latents, DPM, before)
        return moved + clean, faults

    given = [normal(2, 4, 3, 3, seed=i) for i in range(4)]
    expected = call(*given)
    found = torch.compile(call, fullgraph=True, backend="aot_eager")(*given)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_what_is_not_finite_is_counted_for_its_sample() -> None:
    x, one = normal(3, 4, 2, 2), normal(3, 4, 2, 2, seed=1)
    one[1, 2, 0, 1], one[1, 0, 0, 0] = float("nan"), float("inf")
    _, _, faults = combine_and_step([one], [], x, DDIM)
    assert faults.sum(dim=1).tolist() == [0, 2, 0]


def test_half_precision_predictions_are_summed_in_float32() -> None:
    text, null, x = normal(2, 4, 5, 5), normal(2, 4, 5, 5, seed=1), normal(2, 4, 5, 5, seed=2)
    half = [one.bfloat16() for one in (text, null)]
    found, _, _ = combine_and_step(half, [7.5], x, EULER)
    expected, _ = reference([one.float() for one in half], [7.5], x, EULER)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


X = torch.ones(2, 4, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], [], X, DDIM), ["'predictions'", "at least one"]),
        (([X, X[:1]], [2.0], X, DDIM), ["number 1", "(2, 4, 3, 3)", "(1, 4, 3, 3)"]),
        (([X[0]], [], X[0], DDIM), ["(s, c, h, w)", "(4, 3, 3)"]),
        (([X, X.half()], [2.0], X, DDIM), ["one type", "float32, float16"]),
        (([X.int()], [], X, DDIM), ["number 0", "bfloat16", "int32"]),
        (([X.to("meta")], [], X, DDIM), ["on cpu", "on meta"]),
        (([X, X], [2.0, 3.0], X, DDIM), ["'coefficients'", "1, one fewer", "found 2"]),
        (([X], [], X, DPM), ["'before'", "the step before", "None"]),
        (([X], [], X, DPM, X[:1]), ["'before'", "(2, 4, 3, 3)", "(1, 4, 3, 3)"]),
    ],
)
def test_what_does_not_fit_is_named(arguments: Any, words: list[str]) -> None:
    with pytest.raises(KernelError) as error:
        combine_and_step(*arguments)
    for word in words:
        assert word in str(error.value)
