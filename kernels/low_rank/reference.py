"""The definition, in plain PyTorch: what every other implementation is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .adapter import Adapter, scaled


def reference(
    x: Float[Tensor, "r n i"],
    base: Float[Tensor, "r n o"] | None,
    adapters: Sequence[Adapter],
) -> Float[Tensor, "r n o"]:
    """Low-rank changes (LoRA, Hu et al. 2022, arXiv 2106.09685, equation 3), each with a factor for rows and positions.

    For the adapters k with strengths s and masks m::

        out[r, n] = base[r, n] + sum over k of s_k[r] m_k[r, n] B_k A_k x[r, n]

    It computes in float32, or in float64 for float64, and rounds once, to the type of ``base``; None is 0.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    shape = (*x.shape[:2], adapters[0].up.shape[0])
    out = x.new_zeros(shape, dtype=wide) if base is None else base.to(wide)
    for adapter in adapters:
        concerned = x if adapter.rows is None else x[adapter.rows]
        narrow = torch.einsum("sni,ki->snk", concerned.to(wide), adapter.down.to(wide))
        part = torch.einsum("snk,ok->sno", scaled(narrow, adapter.factor()), adapter.up.to(wide))
        out = out + part if adapter.rows is None else out.index_add(0, adapter.rows, part)
    return out.to(x.dtype if base is None else base.dtype)
