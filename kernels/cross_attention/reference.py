"""The definition, in plain PyTorch: what every other implementation is held to."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .inputs import Regions, Segments


def reference(
    query: Float[Tensor, "r n h d"],
    segments: Segments,
    regions: Regions | None = None,
    rows: slice = slice(None),
    capture: bool = False,
) -> tuple[Float[Tensor, "r n h d"], Float[Tensor, "p h n t"] | None]:
    """Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, equation 1), a softmax for each segment.

    For the segments s with weights w, keys K and values V::

        P_s  = softmax(Q K_s^T / sqrt(d) + B_s)
        out  = sum over s of w_s P_s V_s
        maps = P_0

    It computes in float32, or in float64 for float64.

    Args:
        query, segments, regions: see `dispatch.cross_attention`.
        rows: whose maps are wanted.
        capture: whether any are.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    probabilities = _probabilities(query, segments, regions)
    out = torch.zeros_like(query, dtype=wide)
    for number, (start, stop) in enumerate(segments):
        value = segments.value[:, start:stop].to(wide)
        part = torch.einsum("rhnt,rthd->rnhd", probabilities[number], value)
        out = out + (part if (weight := _weight(segments, number, wide)) is None else part * weight)
    return out.to(query.dtype), probabilities[0][rows] if capture else None


def reference_gradient(
    given: Float[Tensor, "r n h d"] | None,
    given_maps: Float[Tensor, "p h n t"] | None,
    query: Float[Tensor, "r n h d"],
    segments: Segments,
    regions: Regions | None = None,
    rows: slice = slice(None),
    capture: bool = False,
) -> Float[Tensor, "r n h d"]:
    """The query's gradient, from those of the output and of the maps; None is a gradient of 0.

    With the probabilities P_s computed anew, the derivative of the softmax gives::

        dP_s = w_s dout V_s^T, and dmaps more for the first
        dQ   = sum over s of P_s * (dP_s - sum over tokens of P_s * dP_s) K_s / sqrt(d)
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    probabilities = _probabilities(query, segments, regions)
    slopes = [torch.zeros_like(one) for one in probabilities]
    if given is not None:
        for number, (start, stop) in enumerate(segments):
            weight = _weight(segments, number, wide)
            scaled = given.to(wide) if weight is None else given.to(wide) * weight
            slopes[number] += torch.einsum("rnhd,rthd->rhnt", scaled, segments.value[:, start:stop].to(wide))
    if given_maps is not None and capture:
        slopes[0][rows] += given_maps.to(wide)
    result = torch.zeros_like(query, dtype=wide)
    for (start, stop), p, slope in zip(segments, probabilities, slopes, strict=True):
        scores = p * (slope - (p * slope).sum(dim=-1, keepdim=True))  # r h n t
        result = result + torch.einsum("rhnt,rthd->rnhd", scores, segments.key[:, start:stop].to(wide))
    total: Tensor = result * query.shape[-1] ** -0.5
    return total.to(query.dtype)


def _probabilities(
    query: Tensor, segments: Segments, regions: Regions | None
) -> list[Float[Tensor, "r h n t"]]:
    wide = torch.promote_types(query.dtype, torch.float32)
    q, found = query.to(wide), []
    for start, stop in segments:
        scores = (
            torch.einsum("rnhd,rthd->rhnt", q, segments.key[:, start:stop].to(wide)) * q.shape[-1] ** -0.5
        )
        bias = None if regions is None else regions.dense(start, stop)
        found.append((scores if bias is None else scores + bias.to(wide)).softmax(dim=-1))
    return found


def _weight(segments: Segments, number: int, dtype: torch.dtype) -> Float[Tensor, "r m 1 1"] | None:
    return None if segments.weights is None else segments.weights[number].to(dtype)[:, :, None, None]
