# mypy: ignore-errors
# Triton's language is Python in form only: its types are those of the compiled program.
"""The Triton kernel: a program for each block of positions makes all narrow tensors, and then the output from them.

Shapes, with rows and positions as one axis m: x (m, i), base and out (m, o), narrow (parts, m, width), and of each
adapter down (k, i), up (o, k), strength (s,), mask (s, n), rows (s,).
"""

import triton
import triton.language as tl


@triton.jit
def _factor(
    m, size, positions, strength, strength_step, mask, mask_step, rows, count,
    MASKED: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    """Strength times mask of one adapter, 0 where it does not concern a row."""
    place = m // positions
    if LISTED:
        row = place
        place = tl.full(row.shape, -1, tl.int32)
        for number in range(count):
            place = tl.where(tl.load(rows + number) == row, number, place)
    concerned = (m < size) & (place >= 0)
    factor = tl.load(strength + place * strength_step, mask=concerned, other=0.0).to(tl.float32)
    if MASKED:
        here = mask + place.to(tl.int64) * mask_step + m % positions
        factor *= tl.load(here, mask=concerned, other=0.0).to(tl.float32)
    return factor


@triton.jit
def _narrow(
    x, m, size, down, rank_step, channel_step, wide_in,
    RANK: tl.constexpr, TILE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A x of one adapter for a block of positions, in float32."""
    k = tl.arange(0, TILE)
    result = tl.zeros([BLOCK_M, TILE], tl.float32)
    for start in range(0, wide_in, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)
        wide = tl.load(
            x + m[:, None] * wide_in + i[None, :],
            mask=(m < size)[:, None] & (i < wide_in)[None, :],
            other=0.0,
        )
        a = tl.load(
            down + i[:, None] * channel_step + k[None, :] * rank_step,
            mask=(i < wide_in)[:, None] & (k < RANK)[None, :],
            other=0.0,
        )
        result = tl.dot(wide, a.to(wide.dtype), result, input_precision=PRECISION)
    return result


@triton.jit
def low_rank_kernel(
    x_ptr, base_ptr, out_ptr, narrow_ptr, downs, ups, strengths, masks, rows,
    down_rank_steps, down_channel_steps, up_channel_steps, up_rank_steps, strength_steps, mask_steps, counts,
    size, positions, wide_in, wide_out, share,
    K: tl.constexpr, RANKS: tl.constexpr, TILES: tl.constexpr, STARTS: tl.constexpr, WIDTH: tl.constexpr,
    MASKED: tl.constexpr, LISTED: tl.constexpr, ADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid (blocks of positions, parts of the output), ``share`` tiles to a part."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = (m < size)[:, None]
    line = m.to(tl.int64)
    narrow = narrow_ptr + (tl.program_id(1).to(tl.int64) * size + line)[:, None] * WIDTH
    concerned = tl.zeros([BLOCK_M], tl.int32)
    # a bit for each adapter that does something in this block
    active = tl.zeros([], tl.int32)
    for k in tl.static_range(K):
        factor = _factor(
            m, size, positions, strengths[k], strength_steps[k], masks[k], mask_steps[k], rows[k], counts[k],
            MASKED[k], LISTED[k],
        )  # fmt: skip
        touched = (factor != 0.0).to(tl.int32)
        concerned |= touched
        some = tl.max(touched, 0)
        active |= some << k
        if some > 0:
            part = _narrow(
                x_ptr, line, size, downs[k], down_rank_steps[k], down_channel_steps[k], wide_in,
                RANKS[k], TILES[k], BLOCK_M, BLOCK_I, PRECISION,
            )  # fmt: skip
            # an overflow where the factor is 0 is not to reach the output as NaN
            part = tl.where(factor[:, None] == 0.0, 0.0, part * factor[:, None])
            channel = STARTS[k] + tl.arange(0, TILES[k])
            tl.store(narrow + channel[None, :], part.to(narrow_ptr.dtype.element_ty), mask=inside)
    # what some threads have written others are about to read
    tl.debug_barrier()

    first = tl.program_id(1) * share * BLOCK_O
    for start in range(first, tl.minimum(first + share * BLOCK_O, wide_out), BLOCK_O):
        o = start + tl.arange(0, BLOCK_O)
        place = line[:, None] * wide_out + o[None, :]
        there = inside & (o < wide_out)[None, :]
        out = tl.zeros([BLOCK_M, BLOCK_O], tl.float32)
        if ADDED:
            base = tl.load(base_ptr + place, mask=there, other=0.0)
            out = base.to(tl.float32)
        for k in tl.static_range(K):
            if (active >> k) & 1 > 0:
                rank = tl.arange(0, TILES[k])
                scaled = tl.load(narrow + STARTS[k] + rank[None, :], mask=inside, other=0.0)
                b = tl.load(
                    ups[k] + o[None, :] * up_channel_steps[k] + rank[:, None] * up_rank_steps[k],
                    mask=(o < wide_out)[None, :] & (rank < RANKS[k])[:, None],
                    other=0.0,
                )
                out = tl.dot(scaled, b.to(scaled.dtype), out, input_precision=PRECISION)
        result = out.to(out_ptr.dtype.element_ty)
        if ADDED:
            # the very bits: a negative zero too
            result = tl.where((concerned > 0)[:, None], result, base)
        tl.store(out_ptr + place, result, mask=there)
