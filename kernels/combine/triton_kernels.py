# mypy: ignore-errors
# Triton's language is Python in form only: its types are those of the compiled program.
"""The Triton kernel: every element of the latents is read once and written once."""

import triton
import triton.language as tl


@triton.jit
def _combined(predictions, coefficients, place, inside, N: tl.constexpr):
    """The weighted sum of some elements of the predictions; of the last, its own value."""
    last = tl.load(predictions[N - 1] + place, mask=inside, other=0.0).to(tl.float32)
    total = last
    for i in tl.static_range(N - 1):
        one = tl.load(predictions[i] + place, mask=inside, other=0.0).to(tl.float32)
        total += coefficients[i] * (one - last)
    return total


@triton.jit
def step_kernel(
    predictions, coefficients, latents_ptr, before_ptr, out_ptr, clean_ptr, fault_ptr,
    a, b, c, p, q, f, g, size,
    N: tl.constexpr, KIND: tl.constexpr, SECOND: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of one sample: grid (samples, blocks)."""
    start = tl.program_id(0).to(tl.int64) * size
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    e = _combined(predictions, coefficients, start + at, inside, N)
    x = tl.load(latents_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
    x0 = (a * x - b * e) / c
    if KIND == 0:
        moved = p * x0 + q * (f * e + g * x)
    elif KIND == 1:
        moved = x + (x - x0) / p * q
    else:
        moved = p * x - q * x0
        if SECOND:
            moved -= f * (g * (x0 - tl.load(before_ptr + start + at, mask=inside, other=0.0)))
    tl.store(out_ptr + start + at, moved, mask=inside)
    if KEEP:
        tl.store(clean_ptr + start + at, x0, mask=inside)
    # not a number is no larger and no smaller than anything
    faults = tl.where(inside & ~(tl.abs(moved) <= 3.4028234e38), 1, 0)
    tl.store(fault_ptr + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), tl.sum(faults, 0))
