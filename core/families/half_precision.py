"""Autoencoders whose activations leave the range of half precision, and give black images. Free of torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import Tensor

_wide: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def in_range(vae: Any, run: Callable[[Any], Tensor]) -> Tensor:
    """What a network gives, in float32 where half precision does not hold it.

    float16 ends at 65504, which the activations of some autoencoders pass, Stable Diffusion XL's among them.

    Args:
        vae: in any precision; it is not written.
        run: calls it, or a copy of it in another precision.
    """
    import torch

    values = run(vae)
    if vae.dtype != torch.float16 or bool(torch.isfinite(values).all()):
        return values
    if vae not in _wide:
        _wide[vae] = copy.deepcopy(vae).float()
    return run(_wide[vae])
