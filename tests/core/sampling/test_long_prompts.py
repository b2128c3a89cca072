"""Prompts of several sequences, opted in by a conditioner: against transformers and diffusers, and in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from helpers.word_model import model, picture
from torch import Tensor

import weft
from weft.core.api.tokens import in_sequences, read
from weft.core.api.words import Word
from weft.core.load import load
from weft.plugin import Conditioner, Contribution, ModelView, Prepared, PromptTokens, Scene, record
from weft.testing import random_model

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LONG = " ".join(f"a toy of {number} stars on grass" for number in NUMBERS * 2)
NEGATIVE = " ".join(["a boat at night"] * 30)


@record
class LongPrompt(Conditioner):
    """Reads prompts in up to four sequences."""

    name: ClassVar[str] = "long_prompt"
    scene_fields: ClassVar[frozenset[str]] = frozenset()

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        return Sequences()


class Sequences(Prepared):
    """Nothing but the permission."""

    sequences = 4

    def present(self, text: PromptTokens) -> Contribution:
        return ()

    def absent(self, text: PromptTokens) -> Contribution:
        return ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(folder) -> weft.Pipeline:
    return load(folder, device="cpu", dtype=torch.float64)


def by_hand(pipe: weft.Pipeline, prompt: str) -> Tensor:
    """transformers' states of every 75 tokens of a prompt without commas."""
    ids = pipe.text.tokenizer(prompt, add_special_tokens=False).input_ids
    parts = []
    for start in range(0, len(ids), 75):
        part = ids[start : start + 75]
        parts.append(pipe.text.model(torch.tensor([[49406, *part, *[49407] * (76 - len(part))]]))[0])
    return torch.cat(parts, dim=1)


def test_images_equal_diffusers(folder, pipe) -> None:
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float64)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    with torch.no_grad():
        text, null = by_hand(pipe, LONG), by_hand(pipe, NEGATIVE)
    assert text.shape[1] == null.shape[1] == 154
    expected = theirs(
        prompt_embeds=text,
        negative_prompt_embeds=null,
        latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)).double(),
        num_inference_steps=3,
        guidance_scale=5.0,
        output_type="latent",
    ).images
    guidance = [weft.ClassifierFree(5.0, negative_prompt=NEGATIVE)]
    ours = pipe.generate(weft.Scene(LONG), [LongPrompt()], guidance, steps=3, seeds=[3])
    assert (ours.latents - expected).abs().max() <= 1e-9
    assert ours.maps[0].shape[-1] == 154


def test_a_row_is_the_same_beside_longer_ones(pipe) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    scenes = [weft.Scene("a toy on grass"), weft.Scene(LONG)]
    timestep = torch.tensor(500)
    with torch.no_grad():
        both = pipe.predict(latents, timestep, scenes, [LongPrompt()])
        alone = [pipe.predict(latents[i : i + 1], timestep, scenes[i], [LongPrompt()]) for i in (0, 1)]
        plain = pipe.predict(latents[:1], timestep, scenes[0])
    assert torch.equal(alone[0], plain)
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-12)


def test_positions_go_on_in_the_next_sequence(pipe) -> None:
    tokens = pipe.text.tokens(LONG, sequences=4)
    assert (len(tokens.ids), tokens.sequences, tokens.truncated_at) == (154, 2, None)
    (position,) = tokens.find("seven", 2)
    number = pipe.text.tokenizer(LONG[: LONG.rindex("seven")], add_special_tokens=False).input_ids
    assert position == len(number) + 3  # a start token, and an end and a start between
    assert pipe.text.tokens(LONG).truncated_at is not None


def test_clauses_and_new_words_are_not_broken(pipe) -> None:
    """As AUTOMATIC1111: after a comma among the last 20 tokens a new sequence begins, or where a word does not fit."""
    tokenizer = pipe.text.tokenizer
    words = {"<cat>": Word(torch.zeros(6, 32))}

    def lengths(text: str) -> list[int]:
        return [len(row) for row in in_sequences(read(tokenizer, text, words), 75, 9, tokenizer)]

    assert lengths("toy " * 80) == [75, 5]
    assert lengths("toy " * 60 + ", " + "toy " * 20) == [61, 20]
    assert lengths("toy " * 50 + ", " + "toy " * 30) == [75, 6]
    assert lengths("toy " * 75 + ", toy") == [75, 2]
    assert lengths("toy " * 72 + "<cat> toy") == [72, 7]
    assert lengths("toy " * 69 + "<cat> toy") == [75, 1]


@pytest.mark.parametrize("conditioner", [weft.PseudoWord(), weft.FusionText()], ids=lambda one: one.name)
def test_words_of_images_in_the_second_sequence(conditioner) -> None:
    """A subject past the first sequence is read, and shown; without the permission it is refused."""
    scene = weft.Scene("very " * 80 + "small toy", [weft.Subject("toy", images=[picture(1)])])
    drawn = [
        model().generate(scene, [LongPrompt(), *more], steps=1, attention=False).latents
        for more in ([], [conditioner])
    ]
    assert drawn[1].isfinite().all()
    assert not torch.equal(*drawn)
    with pytest.raises(weft.UserError, match="cuts off"):
        model().generate(scene, [conditioner], steps=1)
