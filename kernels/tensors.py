"""What the checks of arguments share: the types that the operations work on, and how a tensor is described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from .errors import KernelError

DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_dtype(place: str, tensor: Tensor) -> None:
    """Refuse what is not a floating-point tensor of one of the types.

    Raises:
        KernelError: it is not.
    """
    if tensor.dtype not in DTYPES:
        wanted = "float16, bfloat16, float32 or float64"
        raise KernelError(place, wanted, str(tensor.dtype).removeprefix("torch."))


def described(like: Tensor, shape: Sequence[int]) -> str:
    """A shape, with a tensor's type and device."""
    return f"shape {tuple(shape)} of {str(like.dtype).removeprefix('torch.')} on {like.device}"
