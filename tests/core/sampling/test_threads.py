"""One pipeline, many threads: nothing that one thread draws with is seen by another."""

from __future__ import annotations

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
