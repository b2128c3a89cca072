"""Modules that belong to somebody else: frozen while images are drawn with them, and then as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn


class Lent:
    """Somebody's modules, for any number of threads at once.

    Args:
        modules: of a model.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._parts = [part for module in modules for part in module.modules()]
        self._parameters = [one for module in modules for one in module.parameters()]
        self._lock = threading.Lock()
        self._users = 0
        self._training: list[bool] = []
        self._wanted: list[bool] = []

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Without training flags and gradients of parameters, until the last user is done."""
        with self._lock:
            if self._users == 0:
                self._training = [part.training for part in self._parts]
                self._wanted = [parameter.requires_grad for parameter in self._parameters]
                self._set([False] * len(self._parts), [False] * len(self._parameters))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._set(self._training, self._wanted)

    def _set(self, training: Sequence[bool], wanted: Sequence[bool]) -> None:
        for part, flag in zip(self._parts, training, strict=True):
            part.training = flag
        for parameter, flag in zip(self._parameters, wanted, strict=True):
            parameter.requires_grad_(flag)
