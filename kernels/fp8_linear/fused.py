"""Products of 8-bit floats by cuBLAS or CUTLASS, as torch chooses, and quantisation in a launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.fp8_linear.naive import FP8, FP8_MAX, Quantised

_FP8_MAX: tl.constexpr = tl.constexpr(FP8_MAX)


def quantise(x: Tensor) -> Quantised:
    """`naive.quantise`."""
    x = x.contiguous()
    values, scale = empty_quantised(x.shape, x.device)
    if x.numel():
        N = x.shape[-1]
        _quantise[(x.numel() // N,)](
            x, values, scale, N, BLOCK=triton.next_power_of_2(N), num_warps=4
        )
    return Quantised(values, scale, x)


def fp8_linear(x: Quantised, weight: Quantised, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`naive.fp8_linear`."""
    rows = x.values.flatten(0, -2)
    if not len(rows):
        return rows.new_empty(*x.values.shape[:-1], len(weight.values), dtype=dtype)
    product = torch._scaled_mm(
        rows,
        weight.values.t(),
        scale_a=x.scale.view(-1, 1),
        scale_b=weight.scale.view(1, -1),
        bias=bias,
        out_dtype=dtype,
        use_fast_accum=True,
    )
    return product.view(*x.values.shape[:-1], -1)


def empty_quantised(shape: torch.Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Room for rows [..., K] in FP8 and their scales."""
    values = torch.empty(shape, device=device, dtype=FP8)
    return values, torch.empty(shape[:-1], device=device, dtype=torch.float32)


@triton.jit
def store_quantised(values_ptr, scale_ptr, row, i, x, N):
    """Quantise a row x [1, BLOCK] fp32 of N values, and store it with its scale."""
    scale = tl.maximum(tl.max(tl.abs(x), 1), 1e-12) / _FP8_MAX
    tl.store(scale_ptr + row + tl.arange(0, 1), scale)
    values = (x / scale[:, None]).to(values_ptr.dtype.element_ty)
    tl.store(values_ptr + row * N + i, values, mask=i < N)


@triton.jit
def _quantise(x_ptr, values_ptr, scale_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)[None, :]
    x = tl.load(x_ptr + row * N + i, mask=i < N, other=0.0).to(tl.float32)
    store_quantised(values_ptr, scale_ptr, row, i, x, N)
