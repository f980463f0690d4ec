"""The gated delta rule by chunks of 64 tokens, as Triton kernels.

With the notation of `kernels.gated_delta_rule.chunk`: a chunk's writes u solve (I + A) u = r, where
A is strictly lower triangular and r alone depends on the state. So the inverse of I + A is made for
all chunks at once, before the walk through them.
"""

import triton
import triton.language as tl

CHUNK: tl.constexpr = tl.constexpr(64)
# A decay below exp(-50) is none in fp32; without the bound, one would blur the sums that follow.
_MOST_DECAY: tl.constexpr = tl.constexpr(-50.0)
QK_NORM_EPS: tl.constexpr = tl.constexpr(1e-6)
# fp32 operands are split, so that the tensor cores lose nothing; bf16 ones are not touched by this.
_PRECISION: tl.constexpr = tl.constexpr("tf32x3")


@triton.jit
def convolve(
    x_ptr, state_ptr, weight_ptr, times, channels, T, Z, C, W: tl.constexpr, DTYPE: tl.constexpr
):
    """Causal convolution and SiLU at times [M, 1] of channels [1, N], rounded to DTYPE."""
    y = tl.zeros((times.shape[0], channels.shape[1]), tl.float32)
    for i in tl.static_range(W):
        t = times + (i - W + 1)
        weight = tl.load(weight_ptr + channels * W + i).to(tl.float32)
        now = tl.load(x_ptr + t * Z + channels, mask=(t >= 0) & (t < T), other=0.0)
        y += now.to(tl.float32) * weight
        if tl.program_id(0) == 0:  # the first tokens reach back into the state
            past = tl.load(state_ptr + (t + W - 1) * C + channels, mask=t < 0, other=0.0)
            y += past.to(tl.float32) * weight
    return (y * tl.sigmoid(y)).to(DTYPE)


@triton.jit
def normalise(x):
    """Rows [M, N] of length one, in fp32."""
    wide = x.to(tl.float32)
    return wide * tl.rsqrt(tl.sum(wide * wide, 1) + QK_NORM_EPS)[:, None]


@triton.jit
def softplus(x):
    return tl.where(x > 20.0, x, tl.log(1.0 + tl.exp(tl.minimum(x, 20.0))))


@triton.jit
def _join(inverse, A, i, j, SMALL: tl.constexpr, BIG: tl.constexpr, PRECISION: tl.constexpr):
    """From the inverse of the diagonal blocks of SMALL to that of the blocks of BIG = 4 SMALL.

    With D the former and N = D (A outside of it), it is (I + N)^-1 D = (I - N) (I + N^2) D, as
    N^4 = 0. Only three powers are multiplied, so equal keys do not make them grow.
    """
    outside = tl.where((i // BIG == j // BIG) & (i // SMALL != j // SMALL), A, 0.0)
    n = tl.dot(inverse, outside, input_precision=PRECISION)
    squared = tl.dot(n, n, input_precision=PRECISION)
    x = inverse - tl.dot(n, inverse, input_precision=PRECISION)
    return x + tl.dot(squared, x, input_precision=PRECISION)


@triton.jit
def _unit_lower_inverse(A, i, j, PRECISION: tl.constexpr):
    """(I + A)^-1 of a strictly lower triangular A [64, 64] fp32."""
    one = tl.where(i == j, 1.0, 0.0)
    n = tl.where(i // 4 == j // 4, A, 0.0)
    x = one - n
    inverse = x + tl.dot(tl.dot(n, n, input_precision=PRECISION), x, input_precision=PRECISION)
    inverse = _join(inverse, A, i, j, 4, 16, PRECISION)
    return _join(inverse, A, i, j, 16, 64, PRECISION)


@triton.jit
def convolve_heads(
    projected_ptr, conv_state_ptr, conv_weight_ptr, slots_ptr, q_ptr, k_ptr, v_ptr, T, padded, Z, C,
    H, K: tl.constexpr, V: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Normalised q and k, and v, of ROWS tokens of a head: grid (padded / ROWS, H, B)."""
    head, b = tl.program_id(1), tl.program_id(2)
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    x_ptr = projected_ptr + b.to(tl.int64) * T * Z
    state_ptr = conv_state_ptr + tl.load(slots_ptr + b) * (W - 1) * C
    times = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    row = (b * H + head).to(tl.int64) * padded + times
    kc, vc = tl.arange(0, K)[None, :], tl.arange(0, V)[None, :]
    q = convolve(x_ptr, state_ptr, conv_weight_ptr, times, head * K + kc, T, Z, C, W, dtype)
    tl.store(q_ptr + row * K + kc, (normalise(q) * (K**-0.5)).to(dtype))
    k = convolve(x_ptr, state_ptr, conv_weight_ptr, times, (H + head) * K + kc, T, Z, C, W, dtype)
    tl.store(k_ptr + row * K + kc, normalise(k).to(dtype))
    at = 2 * H * K + head * V + vc
    v = convolve(x_ptr, state_ptr, conv_weight_ptr, times, at, T, Z, C, W, dtype)
    tl.store(v_ptr + row * V + vc, v)


@triton.jit
def solve_chunk(
    gates_ptr, a_log_ptr, dt_bias_ptr, lengths_ptr, q_ptr, k_ptr, total_ptr, beta_ptr,
    inverse_ptr, scores_ptr, T, gates_stride, H,
    HAS_LENGTHS: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A chunk's gates, the inverse of its system and its attention: grid (chunks, H, B)."""
    chunk, head, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    length = tl.load(lengths_ptr + b) if HAS_LENGTHS else T
    t = chunk * CHUNK + tl.arange(0, CHUNK)
    # The chunk's place in the buffers [B, H, chunks * CHUNK, ...].
    first = ((b * H + head) * tl.num_programs(0) + chunk).to(tl.int64) * CHUNK
    place = first + tl.arange(0, CHUNK)
    gates_ptr += (b.to(tl.int64) * T + t) * gates_stride + head
    a = tl.load(gates_ptr, mask=t < T, other=0.0).to(tl.float32) + tl.load(dt_bias_ptr + head)
    g = tl.maximum(-tl.exp(tl.load(a_log_ptr + head)) * softplus(a), _MOST_DECAY)
    beta = tl.sigmoid(tl.load(gates_ptr + H, mask=t < T, other=0.0).to(tl.float32))
    counts = t < length
    total = tl.cumsum(tl.where(counts, g, 0.0), 0)
    beta = tl.where(counts, beta, 0.0)
    tl.store(total_ptr + place, total)
    tl.store(beta_ptr + place, beta)

    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    kc = tl.arange(0, K)[None, :]
    k = tl.load(k_ptr + place[:, None] * K + kc)
    q = tl.load(q_ptr + place[:, None] * K + kc)
    decay = tl.exp(tl.minimum(total[:, None] - total[None, :], 0.0))
    keys = tl.trans(k)
    scores = tl.dot(q, keys, input_precision=_PRECISION) * decay
    tl.store(scores_ptr + place[:, None] * CHUNK + j, tl.where(i >= j, scores, 0.0).to(dtype))
    products = tl.dot(k, keys, input_precision=_PRECISION) * decay * beta[:, None]
    inverse = _unit_lower_inverse(tl.where(i > j, products, 0.0), i, j, PRECISION)
    tl.store(inverse_ptr + place[:, None] * CHUNK + j, inverse.to(dtype))


@triton.jit
def _carry_inputs(x_ptr, state_ptr, channels, length, Z, C, W: tl.constexpr, TAPS: tl.constexpr):
    """Keep the last W - 1 inputs that count, oldest first."""
    i = tl.arange(0, TAPS)[:, None]
    t = length - (W - 1) + i
    kept = i < W - 1
    now = tl.load(x_ptr + t * Z + channels, mask=kept & (t >= 0), other=0.0)
    past = tl.load(state_ptr + (t + W - 1) * C + channels, mask=kept & (t < 0), other=0.0)
    tl.debug_barrier()  # all have been read before one is overwritten
    tl.store(state_ptr + i * C + channels, tl.where(t >= 0, now.to(past.dtype), past), mask=kept)


@triton.jit(do_not_specialize=["chunks"])
def walk_chunks(
    projected_ptr, recurrent_state_ptr, conv_state_ptr, slots_ptr, lengths_ptr, q_ptr, k_ptr, v_ptr,
    total_ptr, beta_ptr, inverse_ptr, scores_ptr, o_ptr, T, Z, C, H, chunks,
    HAS_LENGTHS: tl.constexpr, K: tl.constexpr, V: tl.constexpr, W: tl.constexpr,
    TAPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The outputs and the new state of TILE values of a head: grid (V / TILE, H, B)."""
    tile, head, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    slot = tl.load(slots_ptr + b)
    kc, vc = tl.arange(0, K), tile * TILE + tl.arange(0, TILE)
    state_ptr = recurrent_state_ptr + (slot * H + head) * K * V + kc[:, None] * V + vc[None, :]
    state = tl.load(state_ptr)
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    for chunk in range(chunks):
        first = ((b * H + head) * chunks + chunk).to(tl.int64) * CHUNK
        k = tl.load(k_ptr + (first + i) * K + kc[None, :])
        v = tl.load(v_ptr + (first + i) * V + vc[None, :]).to(tl.float32)
        total = tl.load(total_ptr + first + tl.arange(0, CHUNK))
        end = tl.load(total_ptr + first + CHUNK - 1)
        beta = tl.load(beta_ptr + first + tl.arange(0, CHUNK))
        inverse = tl.load(inverse_ptr + (first + i) * CHUNK + j)
        from_start = tl.exp(total)[:, None]
        read = state.to(dtype)
        right = beta[:, None] * (v - from_start * tl.dot(k, read, input_precision=_PRECISION))
        writes = tl.dot(inverse, right.to(dtype), input_precision=_PRECISION).to(dtype)
        q = tl.load(q_ptr + (first + i) * K + kc[None, :])
        scores = tl.load(scores_ptr + (first + i) * CHUNK + j)
        o = from_start * tl.dot(q, read, input_precision=_PRECISION)
        o += tl.dot(scores, writes, input_precision=_PRECISION)
        t = chunk * CHUNK + i
        o_at = ((b.to(tl.int64) * T + t) * H + head) * V + vc[None, :]
        tl.store(o_ptr + o_at, o.to(dtype), mask=t < T)
        to_end = (k.to(tl.float32) * tl.exp(end - total)[:, None]).to(dtype)
        state = state * tl.exp(end) + tl.dot(tl.trans(to_end), writes, input_precision=_PRECISION)
    tl.store(state_ptr, state)

    length = tl.load(lengths_ptr + b) if HAS_LENGTHS else T
    x_ptr = projected_ptr + b.to(tl.int64) * T * Z
    inputs_ptr = conv_state_ptr + slot * (W - 1) * C
    values = 2 * H * K + head * V + vc
    _carry_inputs(x_ptr, inputs_ptr, values[None, :], length, Z, C, W, TAPS)
    if tile == 0:
        keys = head * K + kc
        _carry_inputs(x_ptr, inputs_ptr, keys[None, :], length, Z, C, W, TAPS)
        _carry_inputs(x_ptr, inputs_ptr, (H * K + keys)[None, :], length, Z, C, W, TAPS)
