"""Words that conditioners bring: against diffusers' textual inversion, and in company."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from helpers.textual_inversion import TextualInversion
from safetensors.torch import save_file
from torch import Tensor

import weft
from weft.core.api.branches import Branch
from weft.core.api.step import Step
from weft.core.api.words import occurrences
from weft.core.sampling.branch_evaluator import PreparedScene
from weft.testing import random_model

PROMPT = "a photo of <cat> and a <big-boat> on grass"
STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(folder) -> weft.Pipeline:
    return weft.load(folder, device="cpu", dtype=torch.float64)


def vectors(seed: int, *shape: int) -> Tensor:
    return 0.02 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """One vector for the one word, as of old without an axis for it, and three for the other."""
    out = tmp_path_factory.mktemp("words")
    save_file({"<cat>": vectors(1, 32)}, out / "cat.safetensors")
    save_file({"<big-boat>": vectors(2, 3, 32)}, out / "boat.safetensors")
    return {"<cat>": out / "cat.safetensors", "<big-boat>": out / "boat.safetensors"}


def brought(files: dict[str, Path], *words: str, **parameters: Any) -> list[weft.Conditioner]:
    return [TextualInversion(files[word], **parameters) for word in words]


def diffusers_pipeline(
    folder: Path, files: dict[str, Path], words: tuple[str, ...]
) -> StableDiffusionPipeline:
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float64)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    for word in words:
        theirs.load_textual_inversion(str(files[word].parent), weight_name=files[word].name)
    return theirs


def draw(
    pipe: weft.Pipeline, prompt: str, conditioners: list[weft.Conditioner], **options: object
) -> weft.Result:
    guidance = [weft.ClassifierFree(5.0, negative_prompt="<cat> at night")]
    defaults = {"steps": STEPS, "seeds": (3,), "guidance": guidance}
    return pipe.generate(weft.Scene(prompt), conditioners, **defaults | options)


@pytest.mark.parametrize("words", [("<cat>",), ("<big-boat>",), ("<cat>", "<big-boat>")])
def test_images_equal_diffusers(folder, pipe, files, words) -> None:
    """One vector, several, and two words of two plugins, also in the negative prompt, where ours is plain text."""
    theirs = diffusers_pipeline(folder, files, words)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)).double()
    plain = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float64)
    null = plain.encode_prompt("<cat> at night", torch.device("cpu"), 1, False)[0]
    expected = theirs(
        PROMPT,
        negative_prompt_embeds=null,
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=5.0,
        output_type="latent",
    ).images
    ours = draw(pipe, PROMPT, brought(files, *words))
    assert expected.abs().max() > 0.1
    assert (ours.latents - expected).abs().max() <= 1e-9
    assert not torch.equal(ours.latents, draw(pipe, PROMPT, []).latents)


def test_positions_and_maps_follow_the_true_sequence(pipe, files) -> None:
    """A phrase after words of several tokens, one that holds such a word, and the maps of both."""
    subjects = [weft.Subject("a <big-boat>"), weft.Subject("grass")]
    scene = weft.Scene(PROMPT, subjects)
    conditioners = dict(zip("ab", brought(files, "<cat>", "<big-boat>"), strict=True))
    prepared = PreparedScene(scene, pipe.view((32, 32)), conditioners)
    tokens = prepared.tokens(Branch.full(conditioners))
    # start a photo of <cat> and a <big-boat> x3 on grass
    assert tokens.positions(subjects[0]) == (6, 7, 8, 9)
    assert tokens.positions(subjects[1]) == (11,)
    result = pipe.generate(scene, list(conditioners.values()), steps=1)
    assert result.samples[0].tokens.positions(subjects[1]) == (11,)
    assert torch.equal(result.attention("grass"), result.maps[0][..., 11])
    plain = prepared.tokens(Branch())
    assert plain == pipe.text.tokens(PROMPT)


def test_absent_and_strength_0_are_plain_text(pipe, files) -> None:
    plain = draw(pipe, PROMPT, [])
    assert torch.equal(draw(pipe, PROMPT, brought(files, "<cat>", strength=0.0)).latents, plain.latents)
    prepared = PreparedScene(weft.Scene(PROMPT), pipe.view((32, 32)), {"a": brought(files, "<cat>")[0]})
    expected = pipe.text.encode(pipe.text.tokens(PROMPT))
    assert torch.equal(prepared.row(Branch()).context, expected)
    assert not torch.equal(prepared.row(Branch.full(["a"])).context, expected)


def test_a_strength_between_blends_with_the_plain_token(pipe, files) -> None:
    table = pipe.text.model.get_input_embeddings().weight
    half = brought(files, "<cat>", strength=0.5)[0]
    prepared = PreparedScene(weft.Scene("<cat>"), pipe.view((32, 32)), {"a": half})
    tokens = prepared.tokens(Branch.full(["a"]))
    written = table.clone()
    written[tokens.ids[1]] = torch.lerp(table[tokens.ids[1]], vectors(1, 32), 0.5)
    model = copy.deepcopy(pipe.text.model)
    model.get_input_embeddings().weight.data = written
    expected = model(torch.tensor([tokens.ids]))[0][0]
    assert torch.allclose(prepared.row(Branch.full(["a"])).context, expected, rtol=0, atol=1e-12)


def test_a_schedule_brings_the_word_and_takes_it_away(pipe, files) -> None:
    """In the second half of the steps it is plain text: the context is that of the plain prompt, bit for bit."""
    late = brought(files, "<big-boat>", schedule=(0.0, 0.5))[0]
    prepared = PreparedScene(weft.Scene(PROMPT), pipe.view((32, 32)), {"a": late})
    full = Branch.full(["a"])
    steps = [Step(index, 4, 0.0, full) for index in range(4)]
    present = prepared.row(full).context
    plain = pipe.text.encode(pipe.text.tokens(PROMPT))
    contexts = [prepared.row(full, step).context for step in steps]
    assert [torch.equal(one, present) for one in contexts] == [True, True, False, False]
    assert [torch.equal(one, plain) for one in contexts] == [False, False, True, True]
    # "<cat>", which nobody brings here, is three tokens as plain text
    assert prepared.tokens(full, steps[0]).find("grass") == (13,)
    assert prepared.tokens(full, steps[3]) == pipe.text.tokens(PROMPT)


def test_a_region_of_a_word_is_refused(pipe, files) -> None:
    scene = weft.Scene(PROMPT, [weft.Subject("<cat>", box=(0, 0, 0.5, 1))])
    with pytest.raises(weft.UserError, match="word '<cat>' of 'textual_inversion': expected no region"):
        pipe.generate(scene, brought(files, "<cat>", region="<cat>"), steps=1)


def test_words_are_found_whole_and_the_longest_first() -> None:
    text = "asks Sks <cat><cat-toy> sks's"
    assert occurrences(text, ["sks", "<cat>", "<cat-toy>"]) == [
        (5, 8, "sks"),
        (9, 14, "<cat>"),
        (14, 23, "<cat-toy>"),
        (24, 27, "sks"),
    ]


def test_a_long_word_is_cut_off_with_the_prompt(pipe, files, caplog) -> None:
    scene = weft.Scene(f"{'grass ' * 74}<big-boat>", [weft.Subject("<big-boat>")])
    with pytest.raises(weft.UserError, match="cuts off after"):
        pipe.generate(scene, brought(files, "<big-boat>"), steps=1)
    draw(pipe, scene.prompt, brought(files, "<big-boat>"), steps=1)
    assert "'<big-boat>' is cut off" in caplog.text


def test_two_plugins_that_bring_one_word_are_named(pipe, files) -> None:
    message = "word '<cat>': expected one conditioner .* found 'textual_inversion' and 'textual_inversion_2'"
    with pytest.raises(weft.UserError, match=message):
        draw(pipe, PROMPT, brought(files, "<cat>", "<cat>"))


@pytest.mark.parametrize(
    ("word", "shape", "message"),
    [
        ("<cat>", (2, 16), r"textual_inversion.*words"),
        (" <cat>", (32,), "without spaces around it, found ' <cat>'"),
    ],
)
def test_vectors_that_do_not_fit_name_the_plugin(pipe, tmp_path, word, shape, message) -> None:
    file = tmp_path / "word.safetensors"
    save_file({word: torch.zeros(shape)}, file)
    with pytest.raises(weft.WeftError, match=message):
        draw(pipe, PROMPT, [TextualInversion(file)])
