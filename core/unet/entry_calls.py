"""Calling what conditioners bring into the forward pass: what fails or does not fit names conditioner and place.

A compiled form is not looked at: its conditions have run plain once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..api.ports import Entry
from ..errors import PluginError, WeftError, did_you_mean

T = TypeVar("T")


def refused(entry: Entry, place: str, reason: str) -> PluginError:
    """The error of an entry, by the conditioner that it came from."""
    return PluginError(entry.origin or type(entry).__name__, place, reason)


def called(entry: Entry, place: str, call: Callable[[], T]) -> T:
    """What an entry's module or function gives.

    Raises:
        PluginError: it raised.
    """
    if torch.compiler.is_compiling():
        return call()
    try:
        return call()
    except WeftError:
        raise
    except Exception as error:
        raise refused(entry, place, f"{type(error).__name__}: {error}") from error


def fitting(entry: Entry, place: str, result: Any, like: Tensor) -> Tensor:
    """A result that has the shape and the device of another tensor.

    Raises:
        PluginError: it has not.
    """
    if not torch.compiler.is_compiling():
        if not isinstance(result, Tensor):
            raise refused(entry, place, f"expected a tensor, found {type(result).__name__}")
        if result.shape != like.shape or result.device != like.device:
            wanted, came = (f"shape {tuple(one.shape)} on {one.device}" for one in (like, result))
            raise refused(entry, place, f"expected {wanted}, found {came}")
    checked: Tensor = result
    return checked


def check_paths(entry: Entry, paths: Iterable[str], known: Collection[str]) -> None:
    """Refuse an entry of a transformer block that the UNet does not have.

    Raises:
        PluginError: it names the path, and the nearest that there is.
    """
    for path in paths:
        if path not in known:
            hint = did_you_mean(path, known)
            reason = f"the UNet has no transformer block '{path}'. {hint}".rstrip()
            raise refused(entry, type(entry).__name__, reason)
