"""The gated activation of an MLP in one launch."""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from kernels.fp8_linear.fused import empty_quantised, store_quantised
from kernels.fp8_linear.naive import Quantised
from kernels.silu_mul.product import activated_product

_BLOCK = 1024
# From so many values on, what is not stored outweighs that the library's product is faster.
_MANY = 10_000_000


def silu_mul(gate_up: Tensor) -> Tensor:
    """`naive.silu_mul`: [..., 2 N] -> [..., N]."""
    N = gate_up.shape[-1] // 2
    out = torch.empty(*gate_up.shape[:-1], N, device=gate_up.device, dtype=gate_up.dtype)
    if out.numel():
        _silu_mul[(out.numel() // N, triton.cdiv(N, _BLOCK))](
            gate_up.contiguous(), out, N, BLOCK=_BLOCK, num_warps=4
        )
    return out


def gated_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`naive.gated_product`."""
    rows = x.numel() // x.shape[-1]
    if rows * len(weight) // 2 < _MANY or x.dtype != torch.bfloat16:
        return silu_mul(F.linear(x, weight, bias))
    out = activated_product(x.contiguous().view(rows, -1), weight, bias)
    return out.view(*x.shape[:-1], -1)


def quantised_silu_mul(gate_up: Tensor) -> Quantised:
    """`naive.quantised_silu_mul`."""
    N = gate_up.shape[-1] // 2
    values, scale = empty_quantised(torch.Size((*gate_up.shape[:-1], N)), gate_up.device)
    if values.numel():
        _quantised_silu_mul[(values.numel() // N,)](
            gate_up.contiguous(), values, scale, N, BLOCK=triton.next_power_of_2(N), num_warps=8
        )
    return Quantised(values, scale)


@triton.jit
def _activated(gate_up_ptr, row, i, N):
    """silu(gate) * up of a row's columns i, rounded as it would be stored."""
    gate = tl.load(gate_up_ptr + row * 2 * N + i, mask=i < N, other=0.0)
    up = tl.load(gate_up_ptr + row * 2 * N + N + i, mask=i < N, other=0.0).to(tl.float32)
    wide = gate.to(tl.float32)
    return (wide * tl.sigmoid(wide) * up).to(gate.dtype)


@triton.jit
def _silu_mul(gate_up_ptr, out_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + row * N + i, _activated(gate_up_ptr, row, i, N), mask=i < N)


@triton.jit
def _quantised_silu_mul(gate_up_ptr, values_ptr, scale_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)[None, :]
    wide = _activated(gate_up_ptr, row, i, N).to(tl.float32)
    store_quantised(values_ptr, scale_ptr, row, i, wide, N)
