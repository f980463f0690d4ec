"""The Triton kernels of `kernels.window_attention.fused`."""

import triton
import triton.language as tl

_PRECISION: tl.constexpr = tl.constexpr("tf32x3")
# Below every score, yet finite: the difference of two maxima is never infinity less infinity.
_LOWEST: tl.constexpr = tl.constexpr(-1e30)


@triton.jit
def rotate_and_store(
    qkv_ptr, cos_ptr, sin_ptr, q_ptr, keys_ptr, values_ptr, write_slots_ptr, entries_ptr, T, C,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Rotate one token's queries and keys; keys and values go into the ring: grid (T, B)."""
    token = tl.program_id(1).to(tl.int64) * T + tl.program_id(0)
    head = tl.arange(0, HEADS)[:, None]
    half: tl.constexpr = D // 2
    i = tl.arange(0, half)[None, :]
    at = head * D + i
    inside = head < H + 2 * G
    x_ptr = qkv_ptr + token * (H + 2 * G) * D + at
    a = tl.load(x_ptr, mask=inside, other=0.0)
    b = tl.load(x_ptr + half, mask=inside, other=0.0)
    turned = head < H + G  # values are not
    cos_a = tl.where(turned, tl.load(cos_ptr + token * D + i), 1.0)
    sin_a = tl.where(turned, tl.load(sin_ptr + token * D + i), 0.0)
    cos_b = tl.where(turned, tl.load(cos_ptr + token * D + half + i), 1.0)
    sin_b = tl.where(turned, tl.load(sin_ptr + token * D + half + i), 0.0)
    wide_a, wide_b = a.to(tl.float32), b.to(tl.float32)
    a = (wide_a * cos_a - wide_b * sin_a).to(a.dtype)
    b = (wide_b * cos_b + wide_a * sin_b).to(b.dtype)
    tl.store(q_ptr + token * H * D + at, a, mask=head < H)
    tl.store(q_ptr + token * H * D + at + half, b, mask=head < H)
    entry = tl.load(write_slots_ptr + token) * C + tl.load(entries_ptr + token)
    key_at = entry * G * D + at - H * D
    is_key = (head >= H) & turned
    tl.store(keys_ptr + key_at, a, mask=is_key)
    tl.store(keys_ptr + key_at + half, b, mask=is_key)
    is_value = (head >= H + G) & inside
    tl.store(values_ptr + key_at - G * D, a, mask=is_value)
    tl.store(values_ptr + key_at - G * D + half, b, mask=is_value)


@triton.jit
def attend(
    q_ptr, keys_ptr, values_ptr, slots_ptr, steps_ptr, tags_ptr, open_ptr, out_ptr, scale_ptr, T, C,
    span, window, softmax_scale, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr,
    SPLITS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr, NULL_SLOT: tl.constexpr,
    OPEN_BLOCK: tl.constexpr,
):  # fmt: skip
    """TILE_M rows of a key head over `span` ring entries: grid (tiles, G * SPLITS, B).

    The H / G query heads of a token are neighbouring rows, so all of them share the keys read.
    """
    tile, b = tl.program_id(0), tl.program_id(2)
    group, split = tl.program_id(1) // SPLITS, tl.program_id(1) % SPLITS
    repeat: tl.constexpr = H // G
    row = tile * TILE_M + tl.arange(0, TILE_M)
    t = row // repeat
    inside = t < T
    d = tl.arange(0, D)[None, :]
    q_at = (b.to(tl.int64) * T + t) * H * D + (group * repeat + row % repeat) * D
    q = tl.load(q_ptr + q_at[:, None] + d, mask=inside[:, None], other=0.0)
    step = tl.load(steps_ptr + b * T + t, mask=inside, other=0)[:, None]
    slot = tl.load(slots_ptr + b)
    ring = slot * C * G * D + group * D
    best = tl.full((TILE_M,), _LOWEST, tl.float32)
    total = tl.zeros((TILE_M,), tl.float32)
    o = tl.zeros((TILE_M, D), tl.float32)
    first = split * span
    # Nobody reads what padding in the null slot sees.
    last = tl.where(slot == NULL_SLOT, first, tl.minimum(first + span, C))
    for start in range(first, last, TILE_N):
        c = start + tl.arange(0, TILE_N)
        at = ring + c[:, None] * G * D + d
        in_ring = (c < C)[:, None]
        k = tl.load(keys_ptr + at, mask=in_ring, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=_PRECISION)
        is_open = 0
        if OPEN_BLOCK:
            is_open = tl.load(open_ptr + b * tl.cdiv(C, OPEN_BLOCK) + start // OPEN_BLOCK)
        if is_open == 0:
            tag = tl.load(tags_ptr + b * C + c, mask=c < C, other=-2147483648)[None, :]
            scores = tl.where((tag <= step) & (tag > step - window), scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1) * softmax_scale)
        p = tl.exp2(scores * softmax_scale - higher[:, None])
        rescale = tl.exp2(best - higher)
        best = higher
        total = total * rescale + tl.sum(p, 1)
        v = tl.load(values_ptr + at, mask=in_ring, other=0.0)
        o = o * rescale[:, None]
        o += tl.dot(p.to(v.dtype), v, input_precision=_PRECISION)
    # The parts are normalised, so joining them is a weighted mean.
    o = o / tl.where(total > 0, total, 1.0)[:, None]
    if SPLITS == 1:
        tl.store(out_ptr + q_at[:, None] + d, o.to(q.dtype), mask=inside[:, None])
    else:
        rows = tl.num_programs(0) * TILE_M
        place = ((b * G + group) * SPLITS + split) * rows + row
        tl.store(out_ptr + place[:, None].to(tl.int64) * D + d, o)
        # Two numbers in one: the logarithm of the sum, on the scale of the highest score.
        scale = best + tl.log2(tl.where(total > 0, total, 1.0))
        tl.store(scale_ptr + place, tl.where(total > 0, scale, _LOWEST))


@triton.jit
def join_splits(
    partial_ptr, scale_ptr, out_ptr, T, rows, padded_rows,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The mean of the splits' outputs, weighted by their sums: grid (rows / ROWS, G, B)."""
    group, b = tl.program_id(1), tl.program_id(2)
    repeat: tl.constexpr = H // G
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < rows)[:, None]
    d = tl.arange(0, D)
    split = tl.arange(0, SPLITS)[None, :]
    place = ((b * G + group) * SPLITS + split).to(tl.int64) * padded_rows + row[:, None]
    scale = tl.load(scale_ptr + place, mask=inside, other=0.0)
    weight = tl.exp2(scale - tl.max(scale, 1)[:, None])
    weight = weight / tl.sum(weight, 1)[:, None]
    part = tl.load(partial_ptr + place[:, :, None] * D + d[None, None, :],
                   mask=inside[:, :, None], other=0.0)  # fmt: skip
    o = tl.sum(part * weight[:, :, None], 1)
    at = (b.to(tl.int64) * T + row // repeat) * H * D + (group * repeat + row % repeat) * D
    tl.store(out_ptr + at[:, None] + d[None, :], o.to(out_ptr.dtype.element_ty), mask=inside)
