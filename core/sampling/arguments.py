"""What a generation is called with, as it is meant, or one clear error."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..api.model_view import ModelView
from ..errors import UserError
from ..scene.field_error import quoted
from ..scene.scene import Scene

MOST_SEEDS = 2**63


def scenes_of(scene: Any) -> list[Scene]:
    """Scenes, or prompts, which are scenes of their own.

    Args:
        scene: one of either, or several.

    Raises:
        UserError: there is none, or something is neither.
    """
    if isinstance(scene, (str, Scene)):
        items = [scene]
    else:
        items = _items(scene, "scene", "a weft.Scene, a prompt, or several of them")
    if not items:
        raise UserError("scene", "at least one", "none")
    for item in items:
        if not isinstance(item, (str, Scene)):
            raise UserError("scene", "a weft.Scene or a prompt", quoted(item))
    return [Scene(item) if isinstance(item, str) else item for item in items]


def seeds_of(seeds: Any) -> list[int]:
    """Seeds, at least one, of any iterable: a range, an array, a generator.

    Raises:
        UserError: one of them is no whole number from 0 to 2**63 - 1.
    """
    hint = ""
    if isinstance(seeds, (int, float)) and not isinstance(seeds, bool):
        hint = f"Write [{seeds}] for one seed, range({seeds}) for many."
    items = _items(seeds, "field 'seeds'", "a list of seeds", hint)
    if not items:
        raise UserError("field 'seeds'", "at least one", "none")
    chosen = [whole("field 'seeds'", item, 0) for item in items]
    for seed in chosen:
        if seed >= MOST_SEEDS:
            raise UserError("field 'seeds'", "less than 2**63", str(seed))
    return chosen


def whole(place: str, value: Any, least: int) -> int:
    """A whole number of any type: Python's, numpy's, torch's, also 2.0.

    Raises:
        UserError: it is none, or less than ``least``.
    """
    try:
        number = operator.index(value) if not isinstance(value, bool) else None
    except TypeError:
        number = _from_float(value)
    if number is None:
        raise UserError(place, "a whole number", quoted(value))
    if number < least:
        raise UserError(place, f"at least {least}", str(number))
    return number


def share(place: str, value: Any) -> float | None:
    """A share of the steps, more than 0 and at most 1; None for none.

    Raises:
        UserError: it is something else.
    """
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 < number <= 1.0:
        raise UserError(place, "a share of the steps, more than 0 and at most 1", quoted(value))
    return number


def side(place: str, value: Any, native: int, factor: int) -> int:
    """A side of the image, in pixels.

    Args:
        place: for the error.
        value: as given; None for the model's own.
        native: the model's own.
        factor: what it must be a multiple of.

    Raises:
        UserError: it is none.
    """
    pixels = native if value is None else whole(place, value, 1)
    if pixels % factor:
        near = f"{max(factor, round(pixels / factor) * factor)} is near."
        raise UserError(place, f"a multiple of {factor} pixels", str(pixels), near)
    return pixels


def latents_of(latents: Any, images: int, model: ModelView) -> Float[Tensor, "images c h w"] | None:
    """Latents to begin with, one per image; None for none.

    Raises:
        UserError: they are of another shape, or not finite.
    """
    if latents is None:
        return None
    shape = (images, int(model.vae.config["latent_channels"]), *model.latent_size)
    numbers = isinstance(latents, Tensor) and latents.is_floating_point()
    if not numbers or tuple(latents.shape) != shape:
        found = str(tuple(latents.shape)) if isinstance(latents, Tensor) else quoted(latents)
        raise UserError("field 'latents'", f"a tensor of numbers of shape {shape}", found)
    if not bool(torch.isfinite(latents).all()):
        raise UserError("field 'latents'", "finite numbers", "NaN or infinity")
    # a copy, as what comes from inference mode takes no gradients
    begin: Tensor = latents.detach().to(
        model.device, torch.promote_types(model.dtype, torch.float32), copy=True
    )
    return begin


def named_once(items: Any, place: str, base: type[Any]) -> Sequence[Any]:
    """Plugins as a list, also one that stands alone.

    Raises:
        UserError: it is neither.
    """
    if isinstance(items, (str, base)):
        return [items]
    return _items(items, place, f"a list of names and instances of weft.{base.__name__}")


def _from_float(value: Any) -> int | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if not isinstance(value, str) and number.is_integer() else None


def _items(values: Any, place: str, expected: str, hint: str = "") -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UserError(place, expected, quoted(values), hint)
    try:
        return list(values)
    except TypeError:  # an array without an axis says that it is iterable
        raise UserError(place, expected, quoted(values), hint) from None
