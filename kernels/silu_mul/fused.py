"""The gated activation of an MLP in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


def silu_mul(gate_up: Tensor) -> Tensor:
    """`naive.silu_mul`: [..., 2 N] -> [..., N]."""
    N = gate_up.shape[-1] // 2
    out = torch.empty(*gate_up.shape[:-1], N, device=gate_up.device, dtype=gate_up.dtype)
    if out.numel():
        _silu_mul[(out.numel() // N, triton.cdiv(N, _BLOCK))](
            gate_up.contiguous(), out, N, BLOCK=_BLOCK, num_warps=4
        )
    return out


@triton.jit
def _silu_mul(gate_up_ptr, out_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    gate = tl.load(gate_up_ptr + row * 2 * N + i, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * N + N + i, mask=mask, other=0.0).to(tl.float32)
    out = gate * tl.sigmoid(gate) * up
    tl.store(out_ptr + row * N + i, out.to(out_ptr.dtype.element_ty), mask=mask)
