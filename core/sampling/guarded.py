"""Calling code of plugins, so that what it raises names the plugin and the place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import PluginError, WeftError

T = TypeVar("T")


def guarded(plugin: str, place: str, call: Callable[[], T]) -> T:
    """Run a plugin's code; what it raises, other than our own errors, names the plugin and the place.

    Raises:
        PluginError: the call raised.
    """
    try:
        return call()
    except WeftError:
        raise
    except Exception as error:
        raise PluginError(plugin, place, f"{type(error).__name__}: {error}") from error
