"""Checking the header of a safetensors file before the library reads it. Free of torch.

The format (https://huggingface.co/docs/safetensors): 8 bytes of length, a JSON object of that length, the data.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from ..errors import UserError
from ..storage.refusals import unreadable

MAX_HEADER_BYTES = 32_000_000
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8
BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
"""Bytes of an element; other types, such as the 8-bit floats, cannot be checked for NaN and are refused."""

_NAME = re.compile(r"[\x20-\x7e]{1,512}")


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its data.

    Args:
        shapes: of its tensors, by name.
        metadata: texts that its writer has put in.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """The header, once it is checked: no names like paths, no shapes of many dimensions, no unknown types or ranges.

    Raises:
        UserError: it is not as it should be, or the file cannot be read; the message names the tensor.
    """
    try:
        return _read(path)
    except OSError as error:
        raise unreadable(path, error) from None


def _read(path: Path) -> Header:
    place = f"file '{path.parent.name}/{path.name}'"
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > min(size - 8, MAX_HEADER_BYTES):
            raise _broken(place, "its header is longer than it may be")
        raw = file.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _broken(place, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _broken(place, "its header is not a mapping")
    metadata = header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise UserError(place, f"at most {MAX_TENSORS} tensors", str(len(header)))
    for name, entry in header.items():
        _check_name(name, place)
        _check_entry(entry, f"{place}, tensor '{name}'", size - 8 - length)
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return Header(
        {name: tuple(entry["shape"]) for name, entry in header.items()},
        {name: text for name, text in texts if isinstance(text, str)},
    )


def _check_name(name: str, place: str) -> None:
    steps = name.replace("\\", "/").split("/")
    if not _NAME.fullmatch(name) or ".." in steps or name.startswith(("/", "\\", "~")):
        raise UserError(place, "names of tensors that are no paths", repr(name[:60]))


def _check_entry(entry: Any, place: str, room: int) -> None:
    known = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (known.get(part) for part in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise UserError(place, f"one of the types {', '.join(BYTES)}", repr(dtype)[:60])
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
        found = f"{len(shape)}" if isinstance(shape, list) else "none"
        raise UserError(place, f"a shape of at most {MAX_DIMENSIONS} dimensions", found)
    if not _counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= room:
        raise UserError(place, "a range within the file", repr(offsets)[:60])
    if math.prod(shape) * BYTES[dtype] != offsets[1] - offsets[0]:
        raise UserError(place, f"{offsets[1] - offsets[0]} bytes", f"the shape {shape} of {dtype}")


def _counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**48 for item in value
    )


def _broken(place: str, why: str) -> UserError:
    return UserError(place, "a whole safetensors file", f"one that cannot be read ({why})")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
