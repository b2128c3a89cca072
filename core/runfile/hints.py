"""One more sentence for an error in a file: what to write instead, or what the setting is for. Free of torch."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from ..api.load_settings import OTHER_ARGUMENTS
from ..api.registry import ARGUMENTS, registry
from ..errors import did_you_mean
from ..scene.fields import Keys, holder
from .field_docs import described

PATHS = "Paths are relative to the folder of the file that names them."
_OTHER_NAMES = {
    "batch": "It is called 'batch_size'.",
    "metric": "It is called 'metrics' and is a list.",
    "scene": "It is called 'scenes' and is a list.",
    "bbox": "It is called 'box'.",
    "boxes": "Each subject has a 'box' of its own.",
    "from": "The first of the seeds is called 'first'.",
    "image": "It is called 'images'.",
    "negative": "It is called 'negative_prompt'.",
    "num_inference_steps": "It is called 'steps', under 'sampler'.",
    "seed": "It is called 'seeds' and is a list.",
    "size": "It is written as 'width' and 'height', under 'sampler'.",
    "steps": "It belongs under 'sampler'.",
    "scheduler": "It belongs under 'sampler'.",
    "height": "It belongs under 'sampler'.",
    "width": "It belongs under 'sampler'.",
    **OTHER_ARGUMENTS,
    "text": "It is called 'phrase' in a subject, and 'prompt' in a scene.",
}
"""What people who know other programs call a setting."""

_EXAMPLES = {
    "version": "version: 1",
    "model": "model: tiny",
    "prompt": "prompt: a toy on grass",
    "phrase": "phrase: toy",
    "count": "count: 4",
}
_BOX = "A box is [left, top, right, bottom] in fractions of the image, from 0 to 1"


def advice(section: type[Any], keys: Keys, kind: str, value: Any, context: Mapping[str, Any]) -> str:
    """What to do about a value that pydantic refuses.

    Args:
        section: the record that the document was read as.
        keys: lead to the value.
        kind: pydantic's name for the error.
        value: what is there.
        context: pydantic's details of the error.
    """
    if kind == "missing" and keys and keys[-1] in _EXAMPLES:
        return f"Add it: {_EXAMPLES[keys[-1]]}"
    if kind == "literal_error":
        return _literal(section, keys, value, str(context.get("expected", "")))
    specific = ""
    if "box" in keys:
        specific = _box(kind, value)
    elif keys and value is None and isinstance(keys[-1], int):
        specific = "Take the empty item out."
    elif kind in ("int_type", "float_type"):
        specific = _number(kind, value)
    elif kind == "bool_type" and str(value).lower() in ("yes", "no", "on", "off"):
        specific = "YAML 1.2 knows only true and false."
    elif kind == "string_type":
        specific = _text(section, keys, value)
    elif kind in ("tuple_type", "list_type"):
        specific = "It has to be a list: put it in brackets."
    elif kind == "dataclass_type":
        specific = _record(holder(section, keys), value)
    return specific or about(section, keys)


def about(section: type[Any], keys: Keys) -> str:
    """What the setting is for, and what it is when it is left out."""
    field = described(section, keys)
    if field is None:
        return ""
    sentences = [f"{field.name}: {field.text}."] if field.text else []
    if field.default not in (dataclasses.MISSING, None, "", (), {}) and not dataclasses.is_dataclass(
        field.default
    ):
        sentences.append(f"Left out, it is {_plain(field.default)}.")
    return " ".join(sentences)


def other_name(name: str, known: Collection[str]) -> str:
    """For a setting that does not exist: the one that was meant, or that it can be a comment."""
    for plugin in (item.value for item in registry().loaded() if item.kind in ARGUMENTS):
        if plugin.other_names.get(name) in known:
            return f"It is called '{plugin.other_names[name]}' here."
    return (
        known_elsewhere(name) or did_you_mean(name, known) or "What weft should not read goes behind a '#'."
    )


def known_elsewhere(name: str) -> str:
    """For a setting, or a plugin, by the name that other programs give it; empty for any other name."""
    for plugin in (item.value for item in registry().loaded() if item.kind in ARGUMENTS):
        if name in plugin.other_names:
            field = described(plugin, (plugin.other_names[name],))
            written = "" if field is None else f", {field.name}: {_plain(field.default)}"
            return f"It is written {ARGUMENTS[plugin.kind]}: [{{type: {plugin.name}{written}}}]."
    return _OTHER_NAMES.get(name, "")


def missing_file(folder_is_there: bool, folder: str) -> str:
    """For a file that is not there and has no neighbour of a similar name."""
    return PATHS if folder_is_there else f"There is no folder '{folder}'. {PATHS}"


def untyped(section: Any) -> str:
    """For an item of a list of plugins that names none."""
    if section is None:
        return "Take the empty item out."
    if isinstance(section, list) and len(section) == 1 and isinstance(section[0], str):
        return f"Write it without the inner brackets: {_short(section[0])}"
    if isinstance(section, dict) and len(section) == 1:
        (name, settings), *_ = section.items()
        if name != "type" and isinstance(settings, dict):
            inner = "".join(f", {key}: ..." for key in settings)
            return f"Write {{type: {_short(name)}{_short(inner)}}}"
    return "`weft plugins list` shows the names and what each is for."


def _literal(section: type[Any], keys: Keys, value: Any, expected: str) -> str:
    options = re.findall(r"'([^']*)'|(\d+)", expected)
    names = [text or number for text, number in options]
    if len(names) == 1:
        return f"Write {keys[-1]}: {names[0]}" if keys else ""
    if isinstance(value, list) and len(value) == 1 and value[0] in names:
        return f"Write it without brackets: {value[0]}"
    word = re.sub(r"[\s-]+", "_", str(value).strip().lower())
    return did_you_mean(word, names) or about(section, keys)


def _number(kind: str, value: Any) -> str:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (int, float)):
        return f"Write it without brackets: {value[0]}"
    if kind == "int_type" and isinstance(value, float) and abs(value) < 1e15:
        return f"The nearest are {math.floor(value)} and {math.ceil(value)}."
    if not isinstance(value, str):
        return ""
    if re.fullmatch(r"[-+.\d]+", value):
        return "Without quotes it is a number."
    if share := re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*%", value):
        return f"Write a share as a fraction: {float(share[1]) / 100:g}"
    unit = re.fullmatch(r"([-+]?\d{1,9}(?:\.\d{1,9})?)\s*[a-zA-Z]+", value)
    return f"Write the number alone: {unit[1]}" if unit else ""


def _box(kind: str, value: Any) -> str:
    if kind in ("less_than_equal", "greater_than_equal"):
        return f"{_BOX}: divide pixels by its width and height."
    if kind == "value_error":
        return f"{_BOX}: the last two are edges too, no width and height."
    return (_number(kind, value) if kind == "float_type" else "") or f"{_BOX}."


def _text(section: type[Any], keys: Keys, value: Any) -> str:
    if value is None:
        field = described(section, keys)
        needed = field is not None and field.default is dataclasses.MISSING
        return "Write it behind the colon." if needed else "Write it behind the colon, or take the line out."
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return f"Write it without brackets: {_short(value[0])}"
    return "" if isinstance(value, (list, dict)) else "In quotes it is text."


def _record(section: type[Any], value: Any) -> str:
    names = [field.name for field in dataclasses.fields(section)]
    only = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(only, str):
        return f"Write {{{names[0]}: {_short(only)}}}"
    return f"Write {{{names[0]}: ...}}, with any of {', '.join(names)}."


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(part)}" for key, part in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
