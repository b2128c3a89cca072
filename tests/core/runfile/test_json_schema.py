"""The JSON Schema of run files, read by two validators that share no code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import fastjsonschema
import jsonschema
import pytest

from weft import record
from weft.core.api.guidance import Guidance
from weft.core.api.registry import Registry
from weft.core.api.sampler_settings import SamplerSettings
from weft.core.runfile.json_schema import run_file_schema
from weft.core.runfile.settings import Settings
from weft.core.runfile.strict_yaml import parse_yaml, read_yaml

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
GOOD = """\
version: 1
model: tiny
prompt: a toy and a red star on grass
subjects:
  - {phrase: toy, images: [toy.png], box: [0.05, 0.4, 0.45, 0.9]}
  - {phrase: red star, box: [0, 0.4, 1, 0.9], occurrence: 1}
guidance: [{type: classifier_free, scale: 5, interval: [0, 0.5]}, attend_and_excite]
sampler: {scheduler: euler, steps: 20, width: 512}
seeds: [3, 4]
sweep: {guidance.0.scale: [1, 2.5], prompt: [a toy, a red star]}
metrics: [objects]
"""
KEYWORDS = {
    "$schema", "$ref", "title", "description", "default", "examples", "type", "enum", "const", "properties",
    "required", "additionalProperties", "propertyNames", "items", "minItems", "maxItems", "uniqueItems",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
    "anyOf", "allOf", "oneOf", "not", "definitions",
}  # fmt: skip

Validator = Callable[[Any], None]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return run_file_schema()


@pytest.fixture(scope="module")
def validators(schema: dict[str, Any]) -> list[Validator]:
    jsonschema.Draft7Validator.check_schema(schema)
    return [jsonschema.Draft7Validator(schema).validate, fastjsonschema.compile(schema, use_default=False)]


def refused(validate: Validator, data: Any) -> bool:
    try:
        validate(data)
    except (jsonschema.ValidationError, fastjsonschema.JsonSchemaException):
        return True
    return False


def test_a_good_file_passes_both(validators: list[Validator]) -> None:
    good = [
        parse_yaml(GOOD).data,
        {"version": 1, "model": "tiny", "prompt": "a toy"},
        {"version": 1, "model": "tiny", "scenes": "scenes.jsonl", "seeds": {"count": 9, "first": 3}},
        {"version": 1, "model": "tiny", "scenes": ["a toy", {"prompt": "a toy", "subjects": []}]},
    ]
    assert [[refused(validate, data) for data in good] for validate in validators] == [[False] * 4] * 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_passes_both(validators: list[Validator], path: Path) -> None:
    assert [refused(validate, read_yaml(path).data) for validate in validators] == [False, False]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1\n", ""),
        ("version: 1", "version: 2"),
        ("version: 1", "version: '1'"),
        ("model: tiny\n", ""),
        ("model: tiny", "model: ''"),
        ("model: tiny", "model: [tiny]"),
        ("prompt: a toy and a red star on grass\n", ""),
        ("prompt: a toy and a red star on grass", "prompt: 3"),
        ("prompt: a toy", "promt: a toy"),
        ("seeds:", "seed:"),
        ("seeds: [3, 4]", "seeds: 3"),
        ("seeds: [3, 4]", "seeds: []"),
        ("seeds: [3, 4]", "seeds: [3, 3]"),
        ("seeds: [3, 4]", "seeds: [-1]"),
        ("seeds: [3, 4]", "seeds: [1.5]"),
        ("seeds: [3, 4]", "seeds: {first: 3}"),
        ("seeds: [3, 4]", "seeds: {count: 3, last: 4}"),
        ("phrase: toy", "phrase: ''"),
        ("phrase: toy, ", ""),
        ("phrase: toy", "phrase: toy, bbox: [0, 0, 1, 1]"),
        ("images: [toy.png]", "images: 7"),
        ("images: [toy.png]", "images: [[toy.png]]"),
        ("[0.05, 0.4, 0.45, 0.9]", "[0.05, 0.4, 0.45]"),
        ("[0.05, 0.4, 0.45, 0.9]", "[0.05, 0.4, 0.45, 0.9, 1]"),
        ("[0.05, 0.4, 0.45, 0.9]", "[0.05, 0.4, 0.45, 1.9]"),
        ("occurrence: 1", "occurrence: 0"),
        ("scheduler: euler", "scheduler: eular"),
        ("steps: 20", "steps: 0"),
        ("steps: 20", "steps: 20.5"),
        ("steps: 20", "steps: twenty"),
        ("width: 512", "width: 99999"),
        ("width: 512", "size: 512"),
        ("attend_and_excite]", "attend_and_exite]"),
        ("attend_and_excite]", "delayed]"),  # has a parameter without a default
        ("type: classifier_free", "type: classifer_free"),
        ("type: classifier_free, ", ""),
        ("scale: 5", "scale: five"),
        ("scale: 5", "sclae: 5"),
        ("interval: [0, 0.5]", "interval: [0, 1.5]"),
        ("guidance:", "conditioners: [classifier_free]\nguidance:"),
        ("guidance:", "guidances:"),
        ("guidance.0.scale: [1, 2.5]", "guidance.0.scale: []"),
        ("guidance.0.scale: [1, 2.5]", "guidance.0.scale: 1"),
        ("guidance.0.scale: [1, 2.5]", "seeds: [[1]]"),
        ("metrics: [objects]", "metrics: [objets]"),
        ("metrics: [objects]", "reproducibility: perfect"),
        ("metrics: [objects]", "scenes: scenes.jsonl"),
        ("prompt: a toy and a red star on grass", "scenes: scenes.jsonl"),  # beside 'subjects'
        ("metrics: [objects]", "maps: {edges: 3}"),
    ],
)  # fmt: skip
def test_a_wrong_file_fails_both(validators: list[Validator], old: str, new: str) -> None:
    assert GOOD.count(old) >= 1
    data = parse_yaml(GOOD.replace(old, new, 1)).data
    assert [refused(validate, data) for validate in validators] == [True, True]


def _schemas(part: Any) -> list[dict[str, Any]]:
    """Every subschema."""
    if not isinstance(part, dict):
        return []
    found = [part]
    for name in ("properties", "definitions"):
        found += [inner for one in part.get(name, {}).values() for inner in _schemas(one)]
    for name in ("anyOf", "allOf", "oneOf"):
        found += [inner for one in part.get(name, []) for inner in _schemas(one)]
    for name in ("additionalProperties", "propertyNames", "not"):
        found += _schemas(part.get(name))
    items = part.get("items")
    for one in items if isinstance(items, list) else [items]:
        found += _schemas(one)
    return found


def test_only_keywords_of_draft_07_are_used(schema: dict[str, Any]) -> None:
    used = {name for part in _schemas(schema) for name in part}
    assert used <= KEYWORDS
    assert {"anyOf", "minimum", "maximum", "items"} <= used


def test_every_setting_and_parameter_is_described(schema: dict[str, Any]) -> None:
    undescribed = [
        f"{where}.{name}"
        for where, part in [("top", schema), *schema["definitions"].items()]
        for name, setting in part.get("properties", {}).items()
        if len(setting.get("description", "")) < 5
    ]
    assert undescribed == []
    assert schema["definitions"]["SamplerSettings"]["properties"]["steps"]["maximum"] == 1000


def test_a_plugin_from_elsewhere_is_in_it() -> None:
    @record
    class Louder(Guidance):
        """Makes it louder.

        Args:
            much: how much louder, in decibels.
        """

        name: ClassVar[str] = "louder"
        neutral: ClassVar[Mapping[str, Any]] = {"much": 0.0}

        much: float = 1.0

    plugins = Registry([])
    plugins.add(Louder)
    schema = run_file_schema(plugins)
    made = schema["definitions"]["guidance.louder"]
    assert made["properties"]["much"] == {
        "default": 1.0, "type": "number", "description": "how much louder, in decibels",
    }  # fmt: skip
    validate = jsonschema.Draft7Validator(schema).is_valid
    run = {"version": 1, "model": "x", "prompt": "y"}
    assert validate({**run, "guidance": ["louder", {"type": "louder", "much": 3}]})
    assert not validate({**run, "guidance": ["classifier_free"]})


def test_the_schema_knows_every_setting(schema: dict[str, Any]) -> None:
    import dataclasses

    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(schema["properties"]) == names | {"sweep", "scenes"}
    sampler = {field.name for field in dataclasses.fields(SamplerSettings)}
    assert set(schema["definitions"]["SamplerSettings"]["properties"]) == sampler


def test_the_schema_says_who_reads_what(schema: dict[str, Any]) -> None:
    """Of plugins what they read, of a scene's data who reads it, and which maps there are."""

    class Edges(Guidance):
        """Reads edges."""

        name: ClassVar[str] = "edges_reader"
        neutral: ClassVar[Mapping[str, Any]] = {}
        scene_fields: ClassVar[frozenset[str]] = frozenset({"maps.edges", "source"})

    assert (
        "Reads subjects.box, subjects.mask of a scene."
        in schema["definitions"]["guidance.layout"]["description"]
    )
    assert "read by" in schema["definitions"]["Subject"]["properties"]["box"]["description"]
    assert "keep_source" in schema["properties"]["edit_mask"]["description"]
    plugins = Registry([])
    plugins.add(record(Edges))
    other = run_file_schema(plugins)
    assert other["properties"]["maps"]["properties"]["edges"]["description"] == "read by edges_reader"
    assert other["properties"]["source"]["description"].endswith("; read by edges_reader")
    for validate in (
        jsonschema.Draft7Validator(other).validate,
        fastjsonschema.compile(other, use_default=False),
    ):
        data = {
            "version": 1,
            "model": "tiny",
            "prompt": "a toy",
            "maps": {"edges": "e.png", "depth": "d.png"},
        }
        validate(data)
        assert refused(validate, data | {"maps": {"edges": 3}})
