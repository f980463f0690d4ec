"""A product and the gated activation of it in one launch, so that neither half is ever stored."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

# One for each streaming multiprocessor of an H100.
_PROGRAMS = 132


def activated_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`naive.gated_product` of rows x [M, K] and weight [2 N, K], both contiguous: [M, N]."""
    (M, K), N = x.shape, weight.shape[0] // 2
    out = x.new_empty(M, N)
    tile_m, tile_n, tile_k, warps, stages = _tiles(x.dtype)
    rows, columns = triton.cdiv(M, tile_m), triton.cdiv(N, tile_n)
    # Rows that take turns at the same weights; all of them, if their x stays in the cache as well.
    group = rows if rows <= 16 else 8
    _activated_product[(min(_PROGRAMS, rows * columns),)](
        TensorDescriptor.from_tensor(x, [tile_m, tile_k]),
        TensorDescriptor.from_tensor(weight, [tile_n, tile_k]),
        TensorDescriptor.from_tensor(out, [tile_m, tile_n]),
        x if bias is None else bias, M, N, K, HAS_BIAS=bias is not None,
        PROGRAMS=_PROGRAMS, TILE_M=tile_m, TILE_N=tile_n, TILE_K=tile_k, GROUP=group,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out


def _tiles(dtype: torch.dtype) -> tuple[int, int, int, int, int]:
    """Rows, columns and depth of a tile, warps and stages; measured on an H100."""
    return (64, 32, 32, 4, 2) if dtype == torch.float32 else (128, 128, 64, 8, 3)


@triton.jit
def _activated_product(
    x, weight, out, bias_ptr, M, N, K, HAS_BIAS: tl.constexpr,
    PROGRAMS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """Tiles one after the other, GROUP rows of them at a time, for their weights to stay near."""
    rows, columns = tl.cdiv(M, TILE_M), tl.cdiv(N, TILE_N)
    dtype: tl.constexpr = out.dtype
    for tile in range(tl.program_id(0), rows * columns, PROGRAMS):
        first = tile // (GROUP * columns) * GROUP
        height = tl.minimum(rows - first, GROUP)
        m = (first + tile % (GROUP * columns) % height) * TILE_M
        n = tile % (GROUP * columns) // height * TILE_N
        gate = tl.zeros((TILE_M, TILE_N), tl.float32)
        up = tl.zeros((TILE_M, TILE_N), tl.float32)
        for k in range(0, K, TILE_K):
            x_tile = x.load([m, k])
            gate_weight, up_weight = weight.load([n, k]), weight.load([N + n, k])
            gate = tl.dot(x_tile, gate_weight.T, gate, input_precision="tf32x3")
            up = tl.dot(x_tile, up_weight.T, up, input_precision="tf32x3")
        # Rounded as they would be stored.
        i = n + tl.arange(0, TILE_N)
        if HAS_BIAS:
            gate += tl.load(bias_ptr + i, mask=i < N, other=0.0).to(tl.float32)[None, :]
        gate = gate.to(dtype).to(tl.float32)
        gate *= tl.sigmoid(gate)
        if HAS_BIAS:
            up += tl.load(bias_ptr + N + i, mask=i < N, other=0.0).to(tl.float32)[None, :]
        out.store([m, n], (gate * up.to(dtype).to(tl.float32)).to(dtype))
