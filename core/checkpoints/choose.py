"""Which of the weights in a folder are read: one precision, one set of averages, and all its shards. Free of torch.

diffusers names them ``<stem>[.<variant>][-<number>-of-<count>].safetensors``, for example
``diffusion_pytorch_model.fp16-00001-of-00002.safetensors``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import UserError, did_you_mean

_NAME = re.compile(
    r"(?P<stem>[\w-]+?)(?:\.(?P<variant>\w+))?(?:-(?P<number>\d{5})-of-(?P<count>\d{5}))?\.safetensors"
)
HALVES = ("fp16", "bf16")
"""Variants that are read where there is no other, the first of them first."""
_PICKLED = (".bin", ".ckpt", ".pt", ".pth")
WHOLE = "one .safetensors file, or all its shards"


def chosen_weights(names: Iterable[str], place: str, variant: str | None = None) -> list[str]:
    """The files to read, in order.

    Args:
        names: of the files in one folder.
        place: what the error names.
        variant: as diffusers has it, such as ``fp16``, ``bf16`` or ``non_ema``. By default the file without one,
            which has full precision; else half precision, where there is no other.

    Raises:
        UserError: there are none, more than one could be meant, or shards are missing.
    """
    present = sorted(name for name in names if not name.startswith("."))  # "._name" is macOS' own
    groups: dict[tuple[str, str], dict[int, tuple[str, int]]] = {}
    for name in present:
        if match := _NAME.fullmatch(name):
            number, count = int(match["number"] or 1), int(match["count"] or 1)
            # a whole file and shards of the same name are not to be mixed
            key = match["stem"], match["variant"] or ""
            groups.setdefault(key, {})[number if match["number"] else 0] = name, count
    variants = sorted({kind for _, kind in groups if kind})
    for wanted in _order(variant):
        matches = [shards for (_, kind), shards in groups.items() if kind == wanted]
        if len(matches) > 1:
            found = ", ".join(sorted(name for shards in matches for name, _ in shards.values()))
            raise UserError(place, WHOLE, found, "Move the others away.")
        if matches:
            return _whole(matches[0], place)
    if variant is not None:
        known = ", ".join(variants) or "none"
        raise UserError(
            f"{place}, variant '{variant}'", f"one of {known}", "none", did_you_mean(variant, variants)
        )
    raise UserError(place, WHOLE, *_none(present, variants))


def _order(variant: str | None) -> tuple[str, ...]:
    return ("", *HALVES) if variant is None else (variant,)


def _whole(shards: dict[int, tuple[str, int]], place: str) -> list[str]:
    if 0 in shards:
        return [shards[0][0]]
    count = max(count for _, count in shards.values())
    missing = [number for number in range(1, count + 1) if number not in shards]
    if missing:
        raise UserError(place, f"all {count} shards", f"{len(shards)}; number {missing[0]} is missing")
    return [shards[number][0] for number in range(1, count + 1)]


def _none(present: list[str], variants: list[str]) -> tuple[str, str]:
    """What is there instead, and what to do."""
    if variants:
        return f"the variants {', '.join(variants)}", f"Name one: weft.load(model, variant='{variants[0]}')."
    pickled = [name for name in present if name.endswith(_PICKLED)]
    if pickled:
        hint = "Pickled weights can run code and are never read; convert them to .safetensors first."
        return f"pickled weights alone ({', '.join(pickled[:3])})", hint
    return "none", ""
