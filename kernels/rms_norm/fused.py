"""RMSNorm in one launch: the residual sum before it, or the gate after it, included."""

import torch
import triton
import triton.language as tl
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`naive.rms_norm`; x [..., N]."""
    x = x.contiguous()
    out = torch.empty_like(x)
    _launch(x, x, weight, out, out, eps, add=False)
    return out


def add_rms_norm(x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`naive.add_rms_norm`; x, delta [..., N], neither is written to."""
    x = x.contiguous()
    total, out = torch.empty_like(x), torch.empty_like(x)
    _launch(x, delta, weight, total, out, eps, add=True)
    return total, out


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


def _launch(
    x: Tensor, delta: Tensor, weight: Tensor, total: Tensor, out: Tensor, eps: float, *, add: bool
) -> None:
    N = x.shape[-1]
    rows = x.numel() // N
    if rows:
        _add_rms_norm[(rows,)](
            x, delta.contiguous(), weight, total, out, N, eps, ADD=add,
            BLOCK=triton.next_power_of_2(N), num_warps=4,
        )  # fmt: skip


@triton.jit
def _add_rms_norm(
    x_ptr, delta_ptr, weight_ptr, total_ptr, out_ptr, N, eps,
    ADD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * N
    i = tl.arange(0, BLOCK)
    mask = i < N
    x = tl.load(x_ptr + row + i, mask=mask, other=0.0)
    wide = x.to(tl.float32)
    if ADD:
        total = wide + tl.load(delta_ptr + row + i, mask=mask, other=0.0).to(tl.float32)
        rounded = total.to(x.dtype)
        tl.store(total_ptr + row + i, rounded, mask=mask)
        wide = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / N + eps)
    weight = tl.load(weight_ptr + i, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + row + i, (wide * scale * weight).to(x.dtype), mask=mask)


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
    scale = tl.rsqrt(tl.sum(wide * wide, 1) / V + eps)[:, None]
    weight = tl.load(weight_ptr + i, mask=i < V, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row * gate_stride + at, mask=mask, other=0.0).to(tl.float32)
    out = wide * scale * weight * gate * tl.sigmoid(gate)
    tl.store(out_ptr + row * H * V + at, out.to(o.dtype), mask=mask)
