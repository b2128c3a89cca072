"""What an error in a run file is answered with, beside where it is and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from typing import Annotated

import pytest
from pydantic import Field

from weft import ClassifierFree
from weft.core.api.sampler_settings import SamplerSettings
from weft.core.runfile.field_docs import described, descriptions
from weft.core.runfile.hints import about, advice, other_name, untyped
from weft.core.runfile.settings import Settings
from weft.core.scene import Subject, record
from weft.core.scene.fields import holder


@pytest.mark.parametrize(
    ("keys", "kind", "value", "said"),
    [
        (("sampler", "steps"), "int_type", "20", "Without quotes it is a number."),
        (("sampler", "steps"), "int_type", 20.5, "The nearest are 20 and 21."),
        (("sampler", "steps"), "int_type", -0.5, "The nearest are -1 and 0."),
        (("sampler", "width"), "int_type", "64 px", "Write the number alone: 64"),
        (("sampler", "width"), "int_type", [64], "Write it without brackets: 64"),
        (("sampler", "steps"), "int_type", "many", "steps: how many steps the scheduler takes; 20 to 50 are usual."),
        (("subjects", 0, "box", 1), "float_type", "62.5%", "Write a share as a fraction: 0.625"),
        (("model",), "string_type", None, "Write it behind the colon."),
        (("negative_prompt",), "string_type", None, "Write it behind the colon, or take the line out."),
        (("subjects", 1), "dataclass_type", "red star", "Write {phrase: red star}"),
        (("subjects", 1), "dataclass_type", None, "Take the empty item out."),
        (("sampler",), "dataclass_type", ["euler"], "Write {scheduler: euler}"),
        (("count",), "missing", {}, "Add it: count: 4"),
    ],
)  # fmt: skip
def test_what_is_written_says_what_to_write(keys, kind, value, said) -> None:
    assert advice(Settings, keys, kind, value, {}).startswith(said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Nor Mal", "Did you mean 'normal'?"),
        ("normals", "Did you mean 'normal'?"),
        (["exact"], "Write it without brackets: exact"),
        (
            3,
            "reproducibility: exact gives the same bits whatever is drawn beside an image. Left out, it is normal.",
        ),
    ],
)
def test_one_of_a_few_words(value, said) -> None:
    context = {"expected": "'normal' or 'exact'"}
    assert advice(Settings, ("reproducibility",), "literal_error", value, context) == said


def test_a_literal_of_one_value_is_written_out() -> None:
    assert advice(Settings, ("version",), "literal_error", "one", {"expected": "1"}) == "Write version: 1"


@record
class Inner:
    """Inside.

    Args:
        depth: how far in,
            over two lines.
    """

    depth: int


@record
class Outer:
    """Outside."""

    inner: tuple[Inner, ...] = ()
    table: Annotated[Mapping[str, float], Field(description="weights by name")] = Field(default_factory=dict)
    share: Annotated[float, Field(description="of the whole")] = 0.5
    pair: tuple[float, bool] = Field(default=(0.5, True), description="two of a kind")
    bare: str = "word"


def test_a_field_is_described_by_its_class_wherever_it_lies() -> None:
    depth = described(Outer, ("inner", 3, "depth"))
    assert depth is not None
    assert (depth.name, depth.text, depth.default) == ("depth", "how far in, over two lines", MISSING)
    assert holder(Outer, ("inner", 3, "depth")) is Inner
    table = described(Outer, ("table", "word"))
    assert table is not None
    assert (table.name, table.text, table.default) == ("table", "weights by name", {})
    assert described(Outer, ("nothing",)) is None
    assert descriptions(Outer) == {}


@pytest.mark.parametrize(
    ("section", "name", "said"),
    [
        (Outer, "share", "share: of the whole. Left out, it is 0.5."),
        (Outer, "pair", "pair: two of a kind. Left out, it is [0.5, true]."),
        (Outer, "bare", "Left out, it is word."),
        (Outer, "table", "table: weights by name."),
        (Outer, "nothing", ""),
        (Subject, "phrase", "phrase: words that occur in the scene's prompt."),
        (ClassifierFree, "scale", "scale: guidance scale; 1 is off. Left out, it is 7.5."),
    ],
)
def test_what_a_setting_is_for(section, name, said) -> None:
    assert about(section, (name,)) == said


def test_another_programs_name_is_known_before_one_that_is_written_alike() -> None:
    assert other_name("seed", ["seeds"]) == "It is called 'seeds' and is a list."
    assert other_name("seedz", ["seeds"]) == "Did you mean 'seeds'?"
    assert other_name("guidance_scale", ["scale"]) == "It is called 'scale' here."
    assert other_name("guidance_scale", ["seeds"]).startswith("It is written guidance: ")
    assert other_name("author", ["seeds"]) == "What weft should not read goes behind a '#'."


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (None, "Take the empty item out."),
        (["fusing"], "Write it without the inner brackets: fusing"),
        ({"fusing": {"alpha": 0.5}}, "Write {type: fusing, alpha: ...}"),
        ({"type": {"a": 1}}, "`weft plugins list` shows the names and what each is for."),
        (7, "`weft plugins list` shows the names and what each is for."),
    ],
)
def test_a_plugin_without_a_name(section, said) -> None:
    assert untyped(section) == said


def test_every_setting_can_be_explained() -> None:
    for section in (Settings, SamplerSettings, Subject):
        for name in section.__dataclass_fields__:
            assert about(section, (name,)).startswith(f"{name}: "), name
