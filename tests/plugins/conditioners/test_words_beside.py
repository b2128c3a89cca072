"""The built-in plugins beside a word that another conditioner brings: they see the sequence that the UNet sees."""

from __future__ import annotations

import functools

import pytest
import torch
from helpers.textual_inversion import TextualInversion
from helpers.word_model import model, picture
from safetensors.torch import save_file

import weft
from weft.core.api.words import Word
from weft.plugins.conditioners.grounding.features import phrase_features

PLUGINS: dict[str, tuple[list[weft.Conditioner], list[weft.Guidance]]] = {
    "pseudo_word": ([weft.PseudoWord()], []),
    "fusion_text": ([weft.FusionText()], []),
    "layout": ([], [weft.Layout()]),
    "attend_and_excite": ([], [weft.AttendAndExcite(updates=0)]),
}
SUBJECT = weft.Subject("toy", images=[picture(1)], box=(0.0, 0.25, 0.5, 1.0))


@pytest.fixture
def brought(tmp_path) -> TextualInversion:
    """A word that takes one token, as plain text it takes three; it stands for "boat"."""
    text = model().text
    ids = text.tokens("boat").ids
    save_file(
        {"<cat>": text.model.get_input_embeddings().weight[ids[1]].clone()}, tmp_path / "word.safetensors"
    )
    return TextualInversion(tmp_path / "word.safetensors")


@pytest.mark.parametrize("name", PLUGINS)
def test_they_see_the_true_sequence(brought, name) -> None:
    conditioners, guidance = PLUGINS[name]
    draw = functools.partial(model().generate, guidance=guidance, steps=2)
    scenes = [weft.Scene(f"{word} and a toy on grass", [SUBJECT]) for word in ("<cat>", "boat")]
    drawn = draw(scenes[0], [brought, *conditioners]).latents
    expected = draw(scenes[1], conditioners).latents
    assert torch.equal(drawn, expected)
    assert not torch.allclose(expected, draw(scenes[1], [], guidance=[]).latents, atol=1e-4)


def test_grounding_reads_phrases_with_the_word(brought) -> None:
    text = model().text
    words = brought.prepare(weft.Scene("<cat>"), model().view((32, 32))).words
    like = text.tokens("<cat>", {word: Word(vectors) for word, vectors in words.items()})
    read = phrase_features(text, ["a <cat> at sea", "toy"], like)
    plain = phrase_features(text, ["a boat at sea", "toy"])
    torch.testing.assert_close(read, plain, rtol=0, atol=1e-6)
    assert not torch.allclose(phrase_features(text, ["a <cat> at sea"])[0], plain[0], atol=1e-3)
