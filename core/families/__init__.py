"""The families of models that can be loaded: a file or a folder for each, and this table. Free of torch.

A family of its own is a module with a `Family` and a line here.
"""

from __future__ import annotations

from collections.abc import Collection

from ..api.family import Configuration, Family
from .sd1 import StableDiffusion1

FAMILIES: dict[str, Family] = {family.name: family for family in (StableDiffusion1(),)}
"""By name, the most particular first: the last takes what no other recognises, and says what is wrong with it."""


def family_of(unet: Configuration) -> Family:
    """The family of a UNet with this configuration."""
    return next((one for one in FAMILIES.values() if one.recognises(unet)), _last())


def family_of_file(names: Collection[str]) -> Family:
    """The family of a single file whose tensors have these names."""
    return next((one for one in FAMILIES.values() if one.recognises_file(names)), _last())


def _last() -> Family:
    return list(FAMILIES.values())[-1]
