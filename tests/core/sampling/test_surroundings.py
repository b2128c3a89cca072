"""An image is the same whatever the caller has set in torch, and whatever other threads draw from one pipeline."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from PIL import Image

import weft

PROMPT = "a toy and a red star on grass"


def scene(shift: float = 0.0, prompt: str = PROMPT) -> weft.Scene:
    reference = Image.new("RGB", (32, 32), (200, 30 + int(100 * shift), 30))
    return weft.Scene(
        prompt,
        subjects=[
            weft.Subject("toy", images=[reference], box=(0.05 + shift, 0.4, 0.45 + shift, 0.9)),
            weft.Subject("red star", box=(0.5, 0.05 + shift, 0.95, 0.45 + shift)),
        ],
        source=Image.new("RGB", (64, 64), (30, 200, int(200 * shift))),
    )


RUNS: list[Any] = [
    *(
        [[name], []]
        for name in ("pseudo_word", "fusion_text", "grounding", "mask_location", "subject_adapter")
    ),
    [["pseudo_word", "grounding"], [weft.Fusing(0.5), weft.ClassifierFree(5.0)]],
    [[], [weft.ClassifierFree(5.0, negative_prompt="snow", rescale=0.5)]],
    [["grounding"], [weft.Instruct(), weft.AttendAndExcite()]],
    [["mask_location"], [weft.Composable(5.0)]],
    [["pseudo_word"], [weft.Delayed("pseudo_word", (0.0, 0.5)), weft.ClassifierFree(3.0)]],
    [[], [weft.Layout(), weft.ClassifierFree(3.0)]],
    [[], [weft.KeepSource(), weft.ClassifierFree(3.0)]],
    [[], [weft.ClassifierFree(3.0), weft.PAG()]],
    [[], [weft.ClassifierFree(3.0), weft.SAG()]],
    [[], ["diffusers_guider"]],
]
NAMED = {
    one if isinstance(one, str) else one.name
    for conditioners, guidance in RUNS
    for one in (*conditioners, *guidance)
}


@pytest.fixture(scope="module")
def pipe():
    return weft.load("tiny", device="cpu")


def draw(pipe, run, number: int = 0) -> torch.Tensor:
    conditioners, guidance = run
    size = {"height": 64, "width": 64}
    return pipe.generate(
        scene(0.01 * number), conditioners, guidance, steps=2, seeds=[number], **size
    ).latents


def test_every_built_in_is_drawn_here() -> None:
    from weft.core.api.registry import registry

    built_in = {one.name for one in registry().plugins() if one.distribution == "weft"}
    assert built_in <= NAMED


@pytest.mark.filterwarnings("ignore")
def test_eight_threads_draw_what_one_draws(pipe) -> None:
    alone = [draw(pipe, run, number) for number, run in enumerate(RUNS)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda pair: draw(pipe, pair[1], pair[0]), enumerate(RUNS)))
    differing = [
        run for run, one, other in zip(RUNS, alone, together, strict=True) if not torch.equal(one, other)
    ]
    assert differing == []


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "default dtype": default_dtype,
    "deterministic": deterministic,
    "gradients": torch.enable_grad,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_change_no_bit(pipe, name: str) -> None:
    runs = [RUNS[0], RUNS[4], RUNS[7], RUNS[10], RUNS[13]]
    plain = [draw(pipe, run) for run in runs]
    with SURROUNDINGS[name]():
        within = [draw(pipe, run) for run in runs]
    assert [torch.equal(one, other) for one, other in zip(plain, within, strict=True)] == [True] * len(runs)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_loaded_in_inference_mode_takes_gradients() -> None:
    with torch.inference_mode():
        pipe = weft.load("tiny", device="cpu")
    assert torch.isfinite(draw(pipe, RUNS[7])).all()
