"""Extra context tokens that share the softmax of the text's: a longer context, and regions for their weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ..api.ports import ContextTokens, Entry, TextRegion


def with_shared(
    context: Float[Tensor, "t d"], entries: Iterable[Entry]
) -> tuple[Float[Tensor, "_t d"], tuple[TextRegion, ...]]:
    """A row's context with the shared tokens among its entries, and what is added to their scores.

    The regions have no origin, as the strength of their conditioner is in their masks and does not scale them again.
    """
    regions = []
    for entry in entries:
        if isinstance(entry, ContextTokens) and entry.joined == "shared":
            positions = torch.arange(len(context), len(context) + len(entry.tokens))
            context = torch.cat([context, entry.tokens.to(context)])
            weight = torch.ones(1, 1, device=context.device) if entry.region is None else entry.region
            if entry.region is not None or entry.strength != 1.0:
                regions.append(TextRegion(positions, entry.strength * weight))
    return context, tuple(regions)
