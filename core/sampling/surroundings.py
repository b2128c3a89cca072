"""What a caller's surroundings change of torch, undone while Weft works: an image is the same wherever it is drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def own_surroundings() -> Iterator[None]:
    """Without gradients, inference mode, autocast, and another default device than the CPU.

    An energy asks for gradients within, which tensors of inference mode do not take.
    All are a thread's own. The default type is the process's: what is computed does not depend on it.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            # not torch.device("cpu"): beside any such mode PyTorch leaves its fused attention, which rounds otherwise
            stack.enter_context(torch._C.DisableTorchFunction())
        yield


def in_own_surroundings(function: Callable[P, T]) -> Callable[P, T]:
    """A function that is called in `own_surroundings`."""

    @functools.wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> T:
        with own_surroundings():
            return function(*args, **options)

    return called
