"""Tokens that a model's folder adds: read whole, by the numbers that the file gives them, from every form of file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AddedToken, CLIPTokenizer

import weft
from weft.core.api.text_encoder import TextEncoder
from weft.core.checkpoints.tokenizer import read_tokenizer
from weft.testing import random_pipeline

TEXT = "a <cat> on <CAT>, sks-dogs and sks-dog"


@pytest.fixture
def folder(tmp_path) -> Path:
    """As transformers writes one."""
    tokenizer = read_tokenizer(tmp_path)
    tokenizer.add_tokens(["<cat>", AddedToken("sks-dog", single_word=True)])
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def old_form(folder: Path) -> None:
    """The vocabulary and its merges in files of their own, and so the added tokens."""
    whole = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    merges = (" ".join(pair) for pair in whole["model"]["merges"])
    (folder / "merges.txt").write_text("\n".join(merges))
    listed = {entry["content"]: entry["id"] for entry in whole["added_tokens"]}
    (folder / "added_tokens.json").write_text(json.dumps(listed))


def test_they_are_read_as_transformers_reads_them(folder) -> None:
    expected = CLIPTokenizer.from_pretrained(folder)(TEXT).input_ids
    assert 49408 in expected
    assert 49409 in expected
    assert read_tokenizer(folder)(TEXT).input_ids == expected
    tokens = TextEncoder(read_tokenizer(folder), random_pipeline().text.model).tokens(TEXT)
    assert list(tokens.ids[: len(expected)]) == expected
    assert tokens.find("<cat> on") == (2, 3)


def test_the_old_form_has_them_too(folder) -> None:
    old_form(folder)
    assert read_tokenizer(folder)("a <cat> on").input_ids == [49406, 320, 49408, 525, 49407]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"<dog>": 49409}, r"numbers follow 49407, found \[49409\]"),
        ({"<dog>": 7}, "added token 7: expected what the other files say, .*, found '<dog>'"),
        ({"": 49408}, "added token 49408: expected a number with 1 to 200 characters"),
        ({"<dog>": "49408"}, "added token '49408'"),
        ({"toy</w>": 49408}, "added token 49408: expected what the other files say"),
    ],
)
def test_numbers_that_do_not_fit_are_named(tmp_path, listed, message) -> None:
    (tmp_path / "added_tokens.json").write_text(json.dumps(listed))
    with pytest.raises(weft.UserError, match=message):
        read_tokenizer(tmp_path)


def test_two_files_must_agree(folder) -> None:
    (folder / "added_tokens.json").write_text('{"<dog>": 49408}')
    with pytest.raises(weft.UserError, match="expected what the other files say, '<dog>', found '<cat>'"):
        read_tokenizer(folder)
