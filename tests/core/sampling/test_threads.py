"""One pipeline, many threads: nothing that one thread draws with is seen by another."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import torch
from helpers.textual_inversion import TextualInversion
from helpers.word_model import model, picture
from safetensors.torch import save_file

import weft


def test_scenes_with_words_of_8_threads_are_those_of_one(tmp_path) -> None:
    """Pseudo words, retrained text transformers, new words and plain prompts side by side, bit for bit."""
    file = tmp_path / "word.safetensors"
    save_file({"<cat>": torch.randn(2, 32, generator=torch.Generator().manual_seed(0))}, file)
    nouns = ("toy", "boat", "star", "car")
    jobs: list[tuple[str, list[weft.Conditioner]]] = []
    for noun in nouns:
        jobs += [
            (noun, [weft.PseudoWord()]),
            (noun, []),
            (noun, [weft.FusionText()]),
            (noun, [TextualInversion(file), weft.PseudoWord()]),
        ]

    def draw(job: tuple[str, list[weft.Conditioner]]) -> torch.Tensor:
        noun, conditioners = job
        subject = weft.Subject(noun, images=[picture(len(noun))])
        scene = weft.Scene(f"a {noun} by <cat>", [subject] if conditioners else [])
        return model().generate(scene, conditioners, steps=3, seeds=(1, 2)).latents

    expected = [draw(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(draw, jobs))
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
    assert not torch.equal(expected[0], expected[1])
    assert not torch.equal(expected[0], expected[3])


def test_every_built_in_conditioner_of_8_threads_is_that_of_one() -> None:
    pipe = weft.load("tiny", device="cpu")
    names = ("pseudo_word", "fusion_text", "grounding", "mask_location", "subject_adapter")
    jobs = [(name, noun) for name in (*names, None) for noun in ("toy", "red star")]

    def draw(job: tuple[str | None, str]) -> torch.Tensor:
        name, noun = job
        subject = weft.Subject(noun, images=[picture(len(noun))], box=(0.0, 0.25, 0.5, 1.0))
        scene = weft.Scene(f"a {noun} on grass", [subject])
        return pipe.generate(scene, [name] if name else [], steps=2, seeds=(1,), attention=False).latents

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", weft.SceneWarning)
        expected = [draw(job) for job in jobs]
        with ThreadPoolExecutor(8) as pool:
            drawn = list(pool.map(draw, jobs))
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
