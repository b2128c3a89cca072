"""The JSON Schema of run files, draft-07, with the sections of every plugin that is installed. Free of torch.

Editors complete and check run files by it; `read_run_file` checks more, such as phrases, files and boxes. Only keywords
are used that draft-07 validators agree on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticOmit, core_schema

from ..api.guidance import DEFAULT_GUIDANCE
from ..api.registry import Registry, registry
from ..api.schedulers import scheduler_names
from .field_docs import descriptions
from .scene_list import MAX_SCENES
from .settings import KINDS, SCENE, SETTINGS, VERSION, SeedRange, Settings
from .sweep import FIXED

DRAFT = "http://json-schema.org/draft-07/schema#"
REFERENCE = "#/definitions/{model}"
FILE = r"\.py$"
"""Of the path of a plugin's file, in place of a plugin's name."""


def run_file_schema(plugins: Registry | None = None) -> dict[str, Any]:
    """The schema, as plain data.

    Args:
        plugins: whose sections, models and metrics are in it; the installed ones by default.
    """
    known = plugins or registry()
    definitions: dict[str, Any] = {}
    top = section_schema(Settings, definitions)
    properties: dict[str, Any] = {name: top["properties"][name] for name in SETTINGS}
    properties["version"] = {"const": VERSION, "description": properties["version"]["description"]}
    properties["model"] |= {"examples": sorted(known.models())}
    for kind in KINDS:
        described = properties[kind].get("description", "")
        properties[kind] = {
            "type": "array",
            "items": _plugins(known, KINDS[kind], definitions),
            "description": described,
        }
    properties["guidance"]["default"] = list(DEFAULT_GUIDANCE)
    _name_readers(properties, definitions, known)
    properties["metrics"]["items"] = {"enum": sorted(known.metrics())}
    ranged = section_schema(SeedRange, definitions)
    properties["seeds"] = {
        "anyOf": [{**_without(properties["seeds"], "description", "default"), "uniqueItems": True}, ranged],
        "default": [0],
        "description": properties["seeds"]["description"],
    }
    scene = {
        "type": "object",
        "properties": {name: properties[name] for name in SCENE},
        "required": ["prompt"],
        "additionalProperties": False,
    }
    definitions["Scene"] = scene
    properties["scenes"] = {
        "description": "many scenes instead of one: a list, or a .jsonl or .yaml file of them",
        "anyOf": [
            {"type": "string", "pattern": r"\.(jsonl|yaml|yml)$"},
            {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_SCENES,
                "items": {"anyOf": [{"type": "string"}, {"$ref": REFERENCE.format(model="Scene")}]},
            },
        ],
    }
    properties["sweep"] = {
        "type": "object",
        "description": "settings by dotted path with the values to try; every combination is drawn",
        "propertyNames": {"not": {"pattern": rf"^({'|'.join(FIXED)})(\.|$)"}, "minLength": 1},
        "additionalProperties": {"type": "array", "minItems": 1},
    }
    sampler = definitions["SamplerSettings"]["properties"]
    described = sampler["scheduler"]["description"]
    sampler["scheduler"] = {"enum": list(scheduler_names(known)), "description": described}
    alone = [name for name in SCENE if name not in ("prompt", "negative_prompt")]
    return {
        "$schema": DRAFT,
        "title": "Weft run file",
        "type": "object",
        "properties": properties,
        "required": [name for name in top["required"] if name != "prompt"],
        "oneOf": [
            {"required": ["prompt"], "not": {"required": ["scenes"]}},
            {"required": ["scenes"], "not": {"anyOf": [{"required": [name]} for name in alone]}},
        ],
        "additionalProperties": False,
        "definitions": definitions,
    }


def _name_readers(properties: dict[str, Any], definitions: dict[str, Any], known: Registry) -> None:
    """Say at every field of a scene and of its subjects which plugins read it, and name the maps that they read."""
    readers: dict[str, list[str]] = {}
    for plugin in known.plugins():
        for name in plugin.value.scene_fields or ():
            readers.setdefault(name, []).append(plugin.name)
    for name, plugins in sorted(readers.items()):
        holder, _, field = name.partition(".")
        sentence = f"read by {', '.join(sorted(plugins))}"
        if holder == "maps" and field:
            of_maps = properties["maps"]
            inner = {**of_maps.get("additionalProperties", {}), "description": sentence}
            of_maps.setdefault("properties", {})[field] = inner
            continue
        described = (
            definitions["Subject"]["properties"][field]
            if holder == "subjects" and field
            else properties[name]
        )
        described["description"] = "; ".join([*filter(None, [described.get("description")]), sentence])


def _plugins(known: Registry, kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A list's item: the name of a plugin that needs no parameters, or a section with its ``type``."""
    names, sections = [], []
    for plugin in known.plugins():
        if plugin.value.kind != kind:
            continue
        section = section_schema(plugin.value, definitions)
        if not section.get("required"):
            names.append(plugin.name)
        summary = plugin.value.summary()
        if plugin.value.scene_fields:
            summary += f" Reads {', '.join(sorted(plugin.value.scene_fields))} of a scene."
        typed = {
            **section,
            "title": f"{kind} {plugin.name}",
            "description": summary,
            "properties": {
                "type": {"const": plugin.name, "description": summary},
                **section.get("properties", {}),
            },
            "required": ["type", *section.get("required", [])],
        }
        label = f"{kind}.{plugin.name}"
        definitions[label] = typed
        sections.append({"$ref": REFERENCE.format(model=label)})
    file = {"type": "string", "pattern": FILE, "description": "a plugin's file, allowed with --plugin"}
    in_file = {"type": "object", "properties": {"type": file}, "required": ["type"]}
    return {"anyOf": [*([{"enum": names}] if names else []), *sections, file, in_file]}


def section_schema(section: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a record; the records within it go to the definitions."""
    schema = TypeAdapter(section).json_schema(
        ref_template=REFERENCE, schema_generator=_Draft07, mode="validation"
    )
    _drop_formats(schema)
    definitions.update(schema.pop("$defs", {}))
    return schema


def _drop_formats(part: Any) -> None:
    """Take out pydantic's own formats, such as ``path``, which validators refuse or ignore."""
    if isinstance(part, dict):
        if isinstance(part.get("format"), str) and part.get("type") == "string":
            del part["format"]
        for inner in part.values():
            _drop_formats(inner)
    elif isinstance(part, list):
        for inner in part:
            _drop_formats(inner)


class _Draft07(GenerateJsonSchema):
    """pydantic's generator, with draft-07's words for tuples, without what YAML cannot hold, with descriptions."""

    def tuple_schema(self, core: core_schema.TupleSchema) -> JsonSchemaValue:
        schema = super().tuple_schema(core)
        if "prefixItems" in schema:
            schema["items"] = schema.pop("prefixItems")
        return schema

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        raise PydanticOmit  # an open image, beside its path

    def encode_default(self, dft: Any) -> Any:
        default = super().encode_default(dft)
        if not isinstance(default, dict):
            return default
        return {name: value for name, value in default.items() if value is not None}

    def dataclass_schema(self, core: core_schema.DataclassSchema) -> JsonSchemaValue:
        schema = super().dataclass_schema(core)
        documented = descriptions(core["cls"])  # type: ignore[arg-type]  # mypy takes no class for hashable
        for name, part in schema.get("properties", {}).items():
            part.pop("title", None)
            if name in documented and "description" not in part:
                # draft-07 ignores what stands beside a reference
                described = {"description": documented[name]}
                schema["properties"][name] = (
                    {"allOf": [part], **described} if "$ref" in part else part | described
                )
        schema["description"] = schema.get("description", "").split("\n", 1)[0]
        return schema


def _without(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names}
