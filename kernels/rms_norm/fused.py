"""RMSNorm in one launch: the residual sum before it, or the gate after it, included."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.fp8_linear.fused import empty_quantised, store_quantised
from kernels.fp8_linear.naive import Quantised


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`naive.rms_norm`; x [..., N]."""
    return _norm(x, None, weight, eps)[1]


def add_rms_norm(x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`naive.add_rms_norm`; x, delta [..., N], neither is written to."""
    return _norm(x, delta, weight, eps)


def quantised_rms_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, *, wide: bool
) -> tuple[Tensor, Quantised]:
    """`naive.quantised_rms_norm`."""
    values, scale = empty_quantised(x.shape, x.device)
    total, normed = _norm(x, delta, weight, eps, (values, scale), wide=wide)
    return total, Quantised(values, scale, normed if wide else None)


def gated_rms_norm(o: Tensor, gate: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`naive.gated_rms_norm`.

    Args:
        o: [R, H, V], contiguous.
        gate: [R, H * V], rows may be strided.
        weight: [V].

    Returns:
        [R, H * V] in o's dtype.
    """
    R, H, V = o.shape
    out = o.new_empty(R, H * V)
    if R:
        _gated_rms_norm[(R, triton.cdiv(H, 4))](
            o, gate, weight, out, gate.stride(0), H, V, eps, HEADS=4,
            BLOCK=triton.next_power_of_2(V), num_warps=4,
        )  # fmt: skip
    return out


def _norm(
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    eps: float,
    quantised: tuple[Tensor, Tensor] | None = None,
    *,
    wide: bool = True,
) -> tuple[Tensor, Tensor]:
    """The sum, and the norm if it is wanted `wide`."""
    x = x.contiguous()
    out = torch.empty_like(x) if wide else x
    total = x if delta is None else torch.empty_like(x)
    N = x.shape[-1]
    rows = x.numel() // N
    values, scale = quantised or (out, out)
    if rows:
        _add_rms_norm[(rows,)](
            x, x if delta is None else delta.contiguous(), weight, total, out, values, scale, N,
            eps, ADD=delta is not None, FP8=quantised is not None, WIDE=wide,
            BLOCK=triton.next_power_of_2(N), num_warps=4,
        )  # fmt: skip
    return total, out


@triton.jit
def _add_rms_norm(
    x_ptr, delta_ptr, weight_ptr, total_ptr, out_ptr, values_ptr, scale_ptr, N, eps,
    ADD: tl.constexpr, FP8: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)[None, :]
    at = row * N + i
    mask = i < N
    x = tl.load(x_ptr + at, mask=mask, other=0.0)
    wide = x.to(tl.float32)
    if ADD:
        total = wide + tl.load(delta_ptr + at, mask=mask, other=0.0).to(tl.float32)
        rounded = total.to(x.dtype)
        tl.store(total_ptr + at, rounded, mask=mask)
        wide = rounded.to(tl.float32)
    mean = tl.sum(wide * wide, 1)[:, None] / N
    weight = tl.load(weight_ptr + i, mask=mask, other=0.0).to(tl.float32)
    out = (wide * tl.rsqrt(mean + eps) * weight).to(x.dtype)
    if WIDE:
        tl.store(out_ptr + at, out, mask=mask)
    if FP8:
        store_quantised(values_ptr, scale_ptr, row, i, out.to(tl.float32), N)


@triton.jit
def _gated_rms_norm(
    o_ptr, gate_ptr, weight_ptr, out_ptr, gate_stride, H, V, eps,
    HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    i = tl.arange(0, BLOCK)[None, :]
    mask = (head < H) & (i < V)
    at = head * V + i
    o = tl.load(o_ptr + row * H * V + at, mask=mask, other=0.0)
    wide = o.to(tl.float32)
    mean = tl.sum(wide * wide, 1)[:, None] / V
    weight = tl.load(weight_ptr + i, mask=i < V, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row * gate_stride + at, mask=mask, other=0.0).to(tl.float32)
    out = wide * tl.rsqrt(mean + eps) * weight * gate * tl.sigmoid(gate)
    tl.store(out_ptr + row * H * V + at, out.to(o.dtype), mask=mask)
