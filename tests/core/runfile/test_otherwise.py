"""Texts that may be meant otherwise than they are read: comments, weights, tags of other programs."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from weft import Scene, SceneWarning
from weft.core.runfile.read import read_run_file
from weft.core.scene.foreign_syntax import foreign_syntax


def read(tmp_path: Path, rest: str, *overrides: str) -> tuple[str, list[str]]:
    """The prompt, and the warnings."""
    (tmp_path / "run.yaml").write_text(f"version: 1\nmodel: tiny\n{rest}\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SceneWarning)
        run, *_ = read_run_file(tmp_path / "run.yaml", overrides=overrides)
    return run.scene.prompt, [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("line", "prompt", "warned"),
    [
        ("prompt: a red ball #2 on grass", "a red ball", True),
        ("prompt: a red ball #2 on grass   ", "a red ball", True),
        ("scenes: [a red ball, a blue ball]", "a red ball", False),
        ("scenes:\n  - a red ball #2\n  - a blue ball", "a red ball", True),
        ("prompt: 'a red ball' #2 on grass", "a red ball", False),
        ("prompt: 'a red ball #2 on grass'", "a red ball #2 on grass", False),
        ("prompt: a red ball # on grass", "a red ball", False),
        ("prompt: a red ball#2", "a red ball#2", False),
        ("prompt: a red ball\n#2", "a red ball", False),
        ("prompt: a red ball\nsampler: {steps: 5} #five", "a red ball", False),
        ("prompt: a red ball\nseeds: [3] #three", "a red ball", False),
    ],
)
def test_a_comment_that_looks_like_text_is_told(tmp_path: Path, line: str, prompt: str, warned: bool) -> None:
    got, told = read(tmp_path, line)
    assert got == prompt
    assert [("in quotes" in one) for one in told] == [True] * warned
    if warned:
        assert "expected a text in quotes, found '#2" in told[0]


def test_a_scenes_file_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "scenes.yaml").write_text("- a red ball #2 on grass\n")
    _, (told,) = read(tmp_path, "scenes: scenes.yaml")
    assert "scenes.yaml:1:14" in told


@pytest.mark.parametrize(
    ("override", "prompt"),
    [
        ("prompt=a red ball #2 on grass", "a red ball #2 on grass"),
        ("prompt=a red ball # 2", "a red ball # 2"),
        ("prompt='a red ball #2'", "a red ball #2"),
        ("prompt=3 #2", "3 #2"),
        ("prompt=a red ball", "a red ball"),
    ],
)
def test_an_override_has_no_comments(tmp_path: Path, override: str, prompt: str) -> None:
    assert read(tmp_path, "prompt: a toy", override) == (prompt, [])


FOREIGN = [
    ("a (red ball:1.5) on grass", "(red ball:1.5)", "guidance strategies emphasise"),
    ("a (red ball: .8)", "(red ball: .8)", "guidance strategies emphasise"),
    ("a ((red)) ball", "((red))", "guidance strategies emphasise"),
    ("a ball++ on grass", "ball++", "guidance strategies emphasise"),
    ("a ball <lora:x:0.8>", "<lora:x:0.8>", "conditioners"),
    ("a ball, embedding:bad", "embedding:bad", "conditioners"),
    ("a [cat:dog:0.5]", "[cat:dog:0.5]", "steps"),
    ("a cat AND a dog", "AND", "predictions of several prompts"),
    ("a cat BREAK a dog", "BREAK", "predictions of several prompts"),
]


@pytest.mark.parametrize(("prompt", "found", "hint"), FOREIGN)
def test_syntax_of_other_programs_is_told(tmp_path: Path, prompt: str, found: str, hint: str) -> None:
    assert [one for one, _ in foreign_syntax(prompt)] == [found]
    got, (told,) = read(tmp_path, f"prompt: '{prompt}'")
    assert got == prompt
    assert "run.yaml:3:9: expected words" in told
    assert found in told
    assert hint in told


@pytest.mark.parametrize(
    "prompt",
    ["a ball (red, at 12:30)", "a 16:9 photo", "Mr. and Mrs. [sic]", "C++ code", "a (small) cat", "a -- b"],
)
def test_ordinary_texts_are_not(prompt: str) -> None:
    assert list(foreign_syntax(prompt)) == []


def test_python_is_told_too() -> None:
    from weft.testing import random_pipeline

    with pytest.warns(SceneWarning, match=r"found '\(red ball:1.5\)'"):
        random_pipeline().generate(Scene("a (red ball:1.5)"), steps=1, attention=False)


def test_a_negative_prompt_is_looked_at(tmp_path: Path) -> None:
    _, (told,) = read(tmp_path, "prompt: a toy\nnegative_prompt: '(bad:1.4)'")
    assert "run.yaml:4:18" in told
    _, (told,) = read(
        tmp_path, "prompt: a toy\nguidance: [{type: classifier_free, negative_prompt: '(bad:1.4)'}]"
    )
    assert "run.yaml:4:53" in told


LONG = "a red ball and a blue star, " * 12
BOXED = "subjects: [{phrase: red ball, box: [0, 0, 1, 1], occurrence: 1}]"


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (f"prompt: '{LONG}'", 1),
        (f"prompt: a toy\nnegative_prompt: '{LONG}'", 1),
        (f"prompt: '{LONG}'\nsweep: {{guidance.0.scale: [1, 2]}}", 1),
        ("prompt: 'a red ball and a blue star'", 0),
        (f"prompt: '{LONG[:80]}'", 0),
        (f"prompt: '{LONG}'\nconditioners: [grounding]\n{BOXED}", 0),
    ],
)
def test_a_prompt_that_is_cut_off_is_told(tmp_path: Path, rest: str, told: int) -> None:
    _, warned = read(tmp_path, rest)
    cut = [one for one in warned if "expected at most 75 tokens, found 96" in one]
    assert len(cut) == told


def test_tokens_are_counted_as_the_text_encoder_reads_them() -> None:
    from weft.core.api.registry import registry
    from weft.core.checkpoints.tokenizer import read_tokenizer
    from weft.core.checkpoints.vocabulary import token_counter

    card = registry().model("tiny")
    assert card is not None
    count, tokenizer = token_counter(card.folder / "tokenizer"), read_tokenizer(card.folder / "tokenizer")
    assert count is not None
    for text in (LONG, "", "It's 12:30, naïve café -- 一只猫!", "  A\tB\n", "don't"):
        assert count(text) == len(tokenizer(text, verbose=False)["input_ids"]) - 2
