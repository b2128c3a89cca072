"""How many images go into one batch: halved when memory runs out, doubled on a GPU while memory is left."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import torch

from ..api.sampler_settings import BATCH_SIZE

MOST = 64
"""Images in a batch at most, where memory alone decides."""
SHARE = 0.8
"""Share of the free memory that a larger batch may be expected to fill."""

_TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "DefaultCPUAllocator")

Memory = Callable[[], tuple[int, int] | None]
"""(bytes that the last batch took, bytes that a batch may take), or None where that is not known."""


class BatchSize:
    """The size of the next batch of images that share a model and a size.

    Args:
        asked: what the user asks for; the size then never grows beyond it.
        memory: what the last batch took.
    """

    def __init__(self, asked: int | None = None, memory: Memory | None = None) -> None:
        self.now = asked or BATCH_SIZE
        self._most = asked or MOST
        self._memory = memory or gpu_memory

    def failed(self, count: int) -> bool:
        """A batch of ``count`` images did not fit; False when it was a single one, and nothing can be done."""
        self._most = max(1, count // 2)
        self.now = self._most
        return count > 1

    def fitted(self, count: int) -> None:
        """A batch of ``count`` images fitted: take twice as many when memory allows for it."""
        if count < self.now or self.now >= self._most:
            return
        known = self._memory()
        if known is not None:
            taken, there = known
            if 2 * taken <= SHARE * there:
                self.now = min(2 * self.now, self._most)


def gpu_memory() -> tuple[int, int] | None:
    """What the last batch took on the present GPU and what it may take; starts to count the next one's."""
    if not torch.cuda.is_available():
        return None
    standing = torch.cuda.memory_allocated()
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    free, _ = torch.cuda.mem_get_info()
    return peak - standing, free + torch.cuda.memory_reserved() - standing


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that memory ran out."""
    return any(
        isinstance(one, (torch.OutOfMemoryError, MemoryError))
        or (isinstance(one, RuntimeError) and any(text in str(one) for text in _TEXTS))
        for one in _causes(error)
    )


def release() -> None:
    """Give back what a failed batch still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _causes(error: BaseException) -> Iterator[BaseException]:
    visited: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in visited:
        visited.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
