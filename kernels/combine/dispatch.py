"""Checks the arguments and calls the operator, which is a launch of Triton on CUDA and the reference elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from ..errors import KernelError
from ..tensors import check_dtype
from .call import Call
from .op import combine_and_step as fused
from .update import Update


def combine_and_step(
    predictions: Sequence[Float[Tensor, "s c h w"]],
    coefficients: Sequence[float],
    latents: Float[Tensor, "s c h w"],
    update: Update,
    before: Float[Tensor, "s c h w"] | None = None,
) -> tuple[Float[Tensor, "s c h w"], Float[Tensor, "s c h w"] | None, Int[Tensor, "s k"]]:
    """See `reference`; the coefficients travel with the call, so that nothing is waited for.

    Returns:
        The new latents; for dpmpp_2m the predicted clean latents, which the next step reads; and how many elements of
        each sample's blocks are not finite, for a look when it costs nothing. Differentiable in predictions, latents
        and ``before``.

    Raises:
        KernelError: a shape, type, device or coefficient does not fit; before anything is launched.
    """
    place = "combine_and_step, argument"
    if not predictions:
        raise KernelError(f"{place} 'predictions'", "at least one", "none")
    tensors = {f"'predictions', number {i}": one for i, one in enumerate(predictions)} | {
        "'latents'": latents
    }
    if before is not None:
        tensors["'before'"] = before
    for name, one in tensors.items():
        if one.ndim != 4 or one.shape != latents.shape or 0 in one.shape or one.device != latents.device:
            wanted = f"shape {tuple(latents.shape)} on {latents.device}"
            if latents.ndim != 4 or 0 in latents.shape:
                wanted = "shape (s, c, h, w), nothing of it 0"
            raise KernelError(f"{place} {name}", wanted, f"{tuple(one.shape)} on {one.device}")
        check_dtype(f"{place} {name}", one)
    if len({one.dtype for one in predictions}) > 1:
        found = ", ".join(str(one.dtype).removeprefix("torch.") for one in predictions)
        raise KernelError(f"{place} 'predictions'", "one type", found)
    if len(coefficients) != len(predictions) - 1:
        wanted = f"{len(predictions) - 1}, one fewer than predictions"
        raise KernelError(f"{place} 'coefficients'", wanted, str(len(coefficients)))
    if update.second_order and before is None:
        raise KernelError(f"{place} 'before'", "the clean latents of the step before", "None")
    moved, clean, faults = fused(*Call.of(predictions, coefficients, latents, update, before).arguments)
    return moved, clean if update.kind == "dpmpp_2m" else None, faults
