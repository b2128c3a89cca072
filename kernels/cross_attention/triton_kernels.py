# mypy: ignore-errors
# Triton's language is Python in form only: its types are those of the compiled program.
"""The Triton kernels: a program for each row, head and block of positions. Probabilities reach memory where they are
captured, and nowhere else.

Shapes: query (r, n, h, d), keys and values (r, t, h, d), output (r, n, h, d), weights (s, r, m), space (r, g, n),
members (r, g, b), maps (p, h, n, t) of the first segment's tokens.
"""

import triton
import triton.language as tl


@triton.jit
def _load_tokens(base, step, token, inside, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Some tokens' keys or values, 0 outside."""
    d = tl.arange(0, BLOCK_D)
    return tl.load(
        base + token[:, None] * step + d[None, :], mask=inside[:, None] & (d[None, :] < D), other=0.0
    )


@triton.jit
def _map_places(maps, token, n, positions, count, LENGTH: tl.constexpr):
    """Where some tokens' maps are, and which of them there are: of the first ``count``."""
    return maps + n[:, None] * LENGTH + token[None, :], (n[:, None] < positions) & (token[None, :] < count)


@triton.jit
def _scores(
    q, k, scale, token, inside, n, positions, space, members,
    G: tl.constexpr, B: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores of one tile of tokens, with the regions added."""
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    for g in tl.static_range(G):
        where = tl.load(space + g * positions + n, mask=n < positions, other=0.0).to(tl.float32)
        which = tl.load(members + g * B + token, mask=inside & (token < B), other=0.0).to(tl.float32)
        scores += where[:, None] * which[None, :]
    return tl.where(inside[None, :], scores, float("-inf"))


@triton.jit
def _attend(
    out, q, weight, k_base, k_step, v_base, v_step, scale, n, positions, space, members, maps, count,
    START: tl.constexpr, LENGTH: tl.constexpr, TILE: tl.constexpr, D: tl.constexpr,
    G: tl.constexpr, B: tl.constexpr, CAPTURE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Output with one segment's added; writes the maps of the first."""
    if LENGTH <= TILE:
        # no second accumulator: at head 160 it would not fit the registers
        inside = tl.arange(0, TILE) < LENGTH
        token = START + tl.arange(0, TILE)
        k = _load_tokens(k_base, k_step, token, inside, D, BLOCK_D)
        scores = _scores(q, k, scale, token, inside, n, positions, space, members, G, B, PRECISION)
        p = tl.exp(scores - tl.max(scores, 1)[:, None])
        p = p / tl.sum(p, 1)[:, None]
        if CAPTURE:
            place, there = _map_places(maps, token, n, positions, count, LENGTH)
            tl.store(place, p, mask=there)
        v = _load_tokens(v_base, v_step, token, inside, D, BLOCK_D)
        out = tl.dot((p * weight[:, None]).to(v.dtype), v, out, input_precision=PRECISION)
    else:
        # the online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867, algorithm 3)
        peak = tl.full([BLOCK_N], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_N], tl.float32)
        part = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
        for tile in range(0, LENGTH, TILE):
            inside = tile + tl.arange(0, TILE) < LENGTH
            token = START + tile + tl.arange(0, TILE)
            k = _load_tokens(k_base, k_step, token, inside, D, BLOCK_D)
            scores = _scores(q, k, scale, token, inside, n, positions, space, members, G, B, PRECISION)
            higher = tl.maximum(peak, tl.max(scores, 1))
            decay = tl.exp(peak - higher)
            p = tl.exp(scores - higher[:, None])
            total = total * decay + tl.sum(p, 1)
            v = _load_tokens(v_base, v_step, token, inside, D, BLOCK_D)
            part = tl.dot(p.to(v.dtype), v, part * decay[:, None], input_precision=PRECISION)
            peak = higher
        out += part * (weight / total)[:, None]
        if CAPTURE:
            # once more, as only now the sums are known
            for tile in range(0, count, TILE):
                inside = tile + tl.arange(0, TILE) < LENGTH
                token = START + tile + tl.arange(0, TILE)
                k = _load_tokens(k_base, k_step, token, inside, D, BLOCK_D)
                scores = _scores(q, k, scale, token, inside, n, positions, space, members, G, B, PRECISION)
                place, there = _map_places(maps, token, n, positions, count, LENGTH)
                tl.store(place, tl.exp(scores - peak[:, None]) / total[:, None], mask=there)
    return out


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, weight_ptr, space_ptr, member_ptr, map_ptr,
    q_row, q_step, q_head, k_row, k_step, k_head, v_row, v_step, v_head,
    scale, rows, heads, positions, first, last, weight_step,
    SEGMENTS: tl.constexpr, STARTS: tl.constexpr, LENGTHS: tl.constexpr, TILES: tl.constexpr,
    D: tl.constexpr, G: tl.constexpr, B: tl.constexpr, CAPTURE: tl.constexpr,
    WEIGHTED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All segments of one block of positions."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    row = (tl.program_id(1) // heads).to(tl.int64)
    head = tl.program_id(1) % heads
    there = (n[:, None] < positions) & (d[None, :] < D)
    q = tl.load(q_ptr + row * q_row + head * q_head + n[:, None] * q_step + d[None, :], mask=there, other=0.0)
    # how many maps this row has
    count = tl.where((row >= first) & (row < last), LENGTHS[0], 0)

    out = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for s in tl.static_range(SEGMENTS):
        weight = tl.full([BLOCK_N], 1.0, tl.float32)
        if WEIGHTED:
            # a step of 0 reads one number for all positions
            m = tl.where(weight_step == 0, 1, positions)
            weight = tl.load(
                weight_ptr + (s * rows + row) * m + n * weight_step, mask=n < positions, other=0.0
            )
        out = _attend(
            out, q, weight, k_ptr + row * k_row + head * k_head, k_step,
            v_ptr + row * v_row + head * v_head, v_step, scale, n, positions,
            space_ptr + row * G * positions, member_ptr + row * G * B,
            map_ptr + ((row - first) * heads + head) * positions * LENGTHS[0], count,
            STARTS[s], LENGTHS[s], TILES[s], D, G, B, CAPTURE and s == 0, BLOCK_N, BLOCK_D, PRECISION,
        )  # fmt: skip
    tl.store(
        out_ptr + (row * positions + n[:, None]) * heads * D + head * D + d[None, :],
        out.to(out_ptr.dtype.element_ty),
        mask=there,
    )


@triton.jit
def _gradient_tile(
    q, given, weight, k_base, k_step, v_base, v_step, scale, n, positions, space, members, given_maps, count,
    tile,
    START: tl.constexpr, LENGTH: tl.constexpr, TILE: tl.constexpr, D: tl.constexpr,
    G: tl.constexpr, B: tl.constexpr, CAPTURE: tl.constexpr,
    BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Keys, scores and the gradient of the probabilities of one tile of tokens."""
    inside = tile + tl.arange(0, TILE) < LENGTH
    token = START + tile + tl.arange(0, TILE)
    k = _load_tokens(k_base, k_step, token, inside, D, BLOCK_D)
    scores = _scores(q, k, scale, token, inside, n, positions, space, members, G, B, PRECISION)
    v = _load_tokens(v_base, v_step, token, inside, D, BLOCK_D)
    slope = tl.dot(given, tl.trans(v), input_precision=PRECISION) * weight[:, None]
    if CAPTURE:
        place, there = _map_places(given_maps, token, n, positions, count, LENGTH)
        slope += tl.load(place, mask=there, other=0.0)
    return k, scores, slope


@triton.jit
def _descend(
    result, q, given, weight, k_base, k_step, v_base, v_step, scale, n, positions, space, members, given_maps, count,
    START: tl.constexpr, LENGTH: tl.constexpr, TILE: tl.constexpr, D: tl.constexpr,
    G: tl.constexpr, B: tl.constexpr, CAPTURE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient with one segment's added: P * (dP - sum of P dP) K, with the probabilities anew."""
    if LENGTH <= TILE:
        # one turn, which the compiler cannot know: unrolled, three segments of heads of 160 spilled 120 registers
        for tile in range(0, tl.minimum(positions, 1)):
            k, scores, slope = _gradient_tile(
                q, given, weight, k_base, k_step, v_base, v_step, scale, n, positions, space, members,
                given_maps, count, tile, START, LENGTH, TILE, D, G, B, CAPTURE, BLOCK_D, PRECISION,
            )  # fmt: skip
            p = tl.exp(scores - tl.max(scores, 1)[:, None])
            p = p / tl.sum(p, 1)[:, None]
            inner = tl.sum(p * slope, 1)
            result = tl.dot((p * (slope - inner[:, None])).to(k.dtype), k, result, input_precision=PRECISION)
    else:
        peak = tl.full([BLOCK_N], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_N], tl.float32)
        inner = tl.zeros([BLOCK_N], tl.float32)
        for tile in range(0, LENGTH, TILE):
            k, scores, slope = _gradient_tile(
                q, given, weight, k_base, k_step, v_base, v_step, scale, n, positions, space, members,
                given_maps, count, tile, START, LENGTH, TILE, D, G, B, CAPTURE, BLOCK_D, PRECISION,
            )  # fmt: skip
            higher = tl.maximum(peak, tl.max(scores, 1))
            decay = tl.exp(peak - higher)
            p = tl.exp(scores - higher[:, None])
            total = total * decay + tl.sum(p, 1)
            inner = inner * decay + tl.sum(p * slope, 1)
            peak = higher
        inner = inner / total
        for tile in range(0, LENGTH, TILE):
            k, scores, slope = _gradient_tile(
                q, given, weight, k_base, k_step, v_base, v_step, scale, n, positions, space, members,
                given_maps, count, tile, START, LENGTH, TILE, D, G, B, CAPTURE, BLOCK_D, PRECISION,
            )  # fmt: skip
            p = tl.exp(scores - peak[:, None]) / total[:, None]
            result = tl.dot((p * (slope - inner[:, None])).to(k.dtype), k, result, input_precision=PRECISION)
    return result


@triton.jit
def backward_kernel(
    q_ptr, k_ptr, v_ptr, given_ptr, given_map_ptr, out_ptr, weight_ptr, space_ptr, member_ptr,
    q_row, q_step, q_head, k_row, k_step, k_head, v_row, v_step, v_head,
    scale, rows, heads, positions, first, last, weight_step,
    SEGMENTS: tl.constexpr, STARTS: tl.constexpr, LENGTHS: tl.constexpr, TILES: tl.constexpr,
    D: tl.constexpr, G: tl.constexpr, B: tl.constexpr, CAPTURE: tl.constexpr,
    WEIGHTED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The query's gradient for one block of positions, from those of the output and of the maps."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    row = (tl.program_id(1) // heads).to(tl.int64)
    head = tl.program_id(1) % heads
    there = (n[:, None] < positions) & (d[None, :] < D)
    q = tl.load(q_ptr + row * q_row + head * q_head + n[:, None] * q_step + d[None, :], mask=there, other=0.0)
    place = (row * positions + n[:, None]) * heads * D + head * D + d[None, :]
    given = tl.load(given_ptr + place, mask=there, other=0.0)
    # how many maps this row has
    count = tl.where((row >= first) & (row < last), LENGTHS[0], 0)

    result = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for s in tl.static_range(SEGMENTS):
        weight = tl.full([BLOCK_N], 1.0, tl.float32)
        if WEIGHTED:
            m = tl.where(weight_step == 0, 1, positions)
            weight = tl.load(
                weight_ptr + (s * rows + row) * m + n * weight_step, mask=n < positions, other=0.0
            )
        result = _descend(
            result, q, given, weight, k_ptr + row * k_row + head * k_head, k_step,
            v_ptr + row * v_row + head * v_head, v_step, scale, n, positions,
            space_ptr + row * G * positions, member_ptr + row * G * B,
            given_map_ptr + ((row - first) * heads + head) * positions * LENGTHS[0], count,
            STARTS[s], LENGTHS[s], TILES[s], D, G, B, CAPTURE and s == 0, BLOCK_N, BLOCK_D, PRECISION,
        )  # fmt: skip
    tl.store(out_ptr + place, (result * scale).to(out_ptr.dtype.element_ty), mask=there)
