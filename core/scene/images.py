"""The images that a record holds, wherever its annotations allow one: the one list of them. Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from PIL import Image
from pydantic import BeforeValidator

from .fields import Keys, field_types

ImageSource = Path | Image.Image
"""A file, or an image that is already open."""

SPATIAL = "has the size of the image that is drawn"
SpatialImage = Annotated[ImageSource, SPATIAL]
"""An image that says something of every place of the image that is drawn, and has its size."""


def _several(value: Any) -> Any:
    if isinstance(value, (str, Path, Image.Image)):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Images = Annotated[
    tuple[ImageSource, ...], BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...])
]
"""Images; one may stand alone, without a list."""

_LISTS = (tuple, list, Sequence)

Change = Callable[[Any, Keys, bool], Any]
"""Of an image (in a file's data: its path, as text), the keys that lead to it, and whether it is spatial."""


def map_images(annotation: Any, value: Any, change: Change, keys: Keys = ()) -> Any:
    """A value with every image in it replaced.

    Args:
        annotation: what the value is, or should be: a record, or what a field of one is annotated with.
        value: a record, or the data of a file that has yet to be checked. What does not fit the annotation stays.
        change: gives what stands in an image's place.
        keys: that lead to the value.
    """
    alternatives = list(_alternatives(annotation))
    if isinstance(value, (str, Path, Image.Image)):
        alone = Path in alternatives or any(_holds_images(one) for one in alternatives)
        return change(value, keys, SPATIAL in alternatives) if alone else value
    for one in alternatives:
        kind, inner = get_origin(one), get_args(one)
        if isinstance(one, type) and dataclasses.is_dataclass(one) and isinstance(value, (one, dict)):
            return _map_fields(one, value, change, keys)
        if kind in _LISTS and isinstance(value, (tuple, list)):
            items = (map_images(inner[0], item, change, (*keys, i)) for i, item in enumerate(value))
            return type(value)(items)
        if kind in (Mapping, dict) and isinstance(value, Mapping):
            return {name: map_images(inner[1], item, change, (*keys, name)) for name, item in value.items()}
    return value


def _map_fields(section: type[Any], value: Any, change: Change, keys: Keys) -> Any:
    data = value if isinstance(value, dict) else vars(value)
    mapped = {
        name: map_images(annotation, data[name], change, (*keys, name))
        for name, annotation in field_types(section).items()
        if name in data
    }
    return {**data, **mapped} if isinstance(value, dict) else dataclasses.replace(value, **mapped)


def _holds_images(annotation: Any) -> bool:
    """Whether it is a tuple of images, in whose place one image may stand alone."""
    return get_origin(annotation) is tuple and Path in _alternatives(get_args(annotation)[0])


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types of a union, and what stands beside them."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation
