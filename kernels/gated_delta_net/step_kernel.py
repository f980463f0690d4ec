"""One token through Gated DeltaNet: convolution, gates, recurrence and gated norm in one launch."""

import triton
import triton.language as tl

from kernels.gated_delta_net.chunk_kernels import QK_NORM_EPS, softplus


@triton.jit
def _convolve(
    x_ptr, state_ptr, weight_ptr, channels, C, W: tl.constexpr, TAPS: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """The convolution's output for channels [N], in fp32 but rounded; its inputs move up by one."""
    i = tl.arange(0, TAPS)[:, None]
    channels = channels[None, :]
    past = tl.load(state_ptr + i * C + channels, mask=i < W - 1, other=0.0)
    now = tl.load(x_ptr + channels)
    taps = tl.where(i == W - 1, now.to(past.dtype), past)
    weight = tl.load(weight_ptr + channels * W + i, mask=i < W, other=0.0)
    y = tl.sum(taps.to(tl.float32) * weight.to(tl.float32), 0)
    tl.debug_barrier()  # all have been read before one is overwritten
    tl.store(state_ptr + (i - 1) * C + channels, taps, mask=(i > 0) & (i < W))
    return (y * tl.sigmoid(y)).to(DTYPE).to(tl.float32)


@triton.jit
def step(
    projected_ptr, gates_ptr, conv_weight_ptr, a_log_ptr, dt_bias_ptr, norm_ptr,
    recurrent_state_ptr, conv_state_ptr, slots_ptr, out_ptr, Z, gates_stride, C, H, eps,
    K: tl.constexpr, V: tl.constexpr, W: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """grid (H, B)."""
    head, b = tl.program_id(0), tl.program_id(1)
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    slot = tl.load(slots_ptr + b)
    x_ptr = projected_ptr + b.to(tl.int64) * Z
    inputs_ptr = conv_state_ptr + slot * (W - 1) * C
    kc, vc = tl.arange(0, K), tl.arange(0, V)
    q = _convolve(x_ptr, inputs_ptr, conv_weight_ptr, head * K + kc, C, W, TAPS, dtype)
    k = _convolve(x_ptr, inputs_ptr, conv_weight_ptr, (H + head) * K + kc, C, W, TAPS, dtype)
    v = _convolve(x_ptr, inputs_ptr, conv_weight_ptr, 2 * H * K + head * V + vc, C, W, TAPS, dtype)
    q = q * tl.rsqrt(tl.sum(q * q, 0) + QK_NORM_EPS) * (K**-0.5)
    k = k * tl.rsqrt(tl.sum(k * k, 0) + QK_NORM_EPS)
    gates_ptr += b.to(tl.int64) * gates_stride + head
    a = tl.load(gates_ptr).to(tl.float32) + tl.load(dt_bias_ptr + head)
    decay = tl.exp(-tl.exp(tl.load(a_log_ptr + head)) * softplus(a))
    beta = tl.sigmoid(tl.load(gates_ptr + H).to(tl.float32))

    state_ptr = recurrent_state_ptr + (slot * H + head) * K * V + kc[:, None] * V + vc[None, :]
    state = tl.load(state_ptr) * decay
    write = beta * (v - tl.sum(k[:, None] * state, 0))
    state += k[:, None] * write[None, :]
    tl.store(state_ptr, state)
    o = tl.sum(q[:, None] * state, 0).to(dtype).to(tl.float32)

    gate = tl.load(x_ptr + C + head * V + vc).to(tl.float32)
    weight = tl.load(norm_ptr + vc).to(tl.float32)
    o = o * tl.rsqrt(tl.sum(o * o, 0) / V + eps) * weight * gate * tl.sigmoid(gate)
    tl.store(out_ptr + (b * H + head) * V + vc, o.to(dtype))
