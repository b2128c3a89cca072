"""The same from PyTorch's linear layers, two for each adapter: the fastest exact way on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .adapter import Adapter, scaled


def composed(
    x: Float[Tensor, "r n i"], base: Float[Tensor, "r n o"], adapters: Sequence[Adapter]
) -> Float[Tensor, "r n o"]:
    """As `reference`, in the input's own type, one adapter after the other. Differentiable in everything.

    Only the rows that an adapter concerns are computed, and it is scaled where there are the fewest channels.
    """
    for adapter in adapters:
        concerned = x if adapter.rows is None else x[adapter.rows]
        narrow = scaled(F.linear(concerned, adapter.down.to(x)), adapter.factor())
        part = F.linear(narrow, adapter.up.to(x))
        base = base + part if adapter.rows is None else base.index_add(0, adapter.rows, part.to(base))
    return base
