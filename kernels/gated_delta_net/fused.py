"""Gated DeltaNet in a few launches, with the state read and written in place by slot number.

A frame's tokens go by chunks: one launch convolves and normalises, one makes all else that needs no
state (gates and the inverse of each chunk's triangular system), one walks the chunks of a row with
the state in registers, one is the gated norm. A single token is one launch.
"""

import torch
import triton
from torch import Tensor

from kernels.gated_delta_net.chunk_kernels import (
    CHUNK,
    convolve_heads,
    solve_chunk,
    walk_chunks,
)
from kernels.gated_delta_net.naive import DeltaNetWeights
from kernels.gated_delta_net.step_kernel import step
from kernels.rms_norm.fused import gated_rms_norm

# tokens a program convolves
_ROWS = 8


def gated_delta_net(
    projected: Tensor,
    gates: Tensor,
    weights: DeltaNetWeights,
    recurrent_state: Tensor,
    conv_state: Tensor,
    slots: Tensor,
    lengths: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """`naive.gated_delta_net`, with `counts` made of `lengths`; products of bf16 run in bf16."""
    projected = projected.contiguous()
    if projected.shape[1] == 1 and lengths is None:
        return _one_token(projected, gates, weights, recurrent_state, conv_state, slots)
    o = _chunks(projected, gates, weights, recurrent_state, conv_state, slots, lengths)
    B, T, H, V = o.shape
    C = weights.conv.shape[0]
    gate = projected.view(B * T, -1)[:, C : C + H * V]
    return gated_rms_norm(o.view(B * T, H, V), gate, weights.norm, weights.eps).view(B, T, H * V)


def _one_token(
    projected: Tensor,
    gates: Tensor,
    weights: DeltaNetWeights,
    recurrent_state: Tensor,
    conv_state: Tensor,
    slots: Tensor,
) -> Tensor:
    B, _, Z = projected.shape
    H, K, V = weights.sizes()
    C, W = weights.conv.shape
    out = projected.new_empty(B, 1, H * V)
    step[(H, B)](
        projected, gates, weights.conv, weights.A_log, weights.dt_bias, weights.norm,
        recurrent_state, conv_state, slots, out, Z, gates.stride(1), C, H, weights.eps,
        K=K, V=V, W=W, TAPS=triton.next_power_of_2(W), num_warps=max(1, min(16, K * V // 2048)),
    )  # fmt: skip
    return out


def _chunks(
    projected: Tensor,
    gates: Tensor,
    weights: DeltaNetWeights,
    recurrent_state: Tensor,
    conv_state: Tensor,
    slots: Tensor,
    lengths: Tensor | None,
) -> Tensor:
    """[B, T, H, V], before the gated norm."""
    B, T, Z = projected.shape
    H, K, V = weights.sizes()
    C, W = weights.conv.shape
    chunks = triton.cdiv(T, CHUNK)
    q, k = projected.new_empty(2, B, H, chunks * CHUNK, K)
    v = projected.new_empty(B, H, chunks * CHUNK, V)
    total, beta = projected.new_empty(2, B, H, chunks * CHUNK, dtype=torch.float32)
    inverse, scores = projected.new_empty(2, B, H, chunks * CHUNK, CHUNK)
    o = projected.new_empty(B, T, H, V)
    limits = slots if lengths is None else lengths
    convolve_heads[(chunks * CHUNK // _ROWS, H, B)](
        projected, conv_state, weights.conv, slots, q, k, v, T, chunks * CHUNK, Z, C, H,
        K=K, V=V, W=W, ROWS=_ROWS, num_warps=4,
    )  # fmt: skip
    # The inverse is rounded to the inputs' dtype, so TF32 loses nothing where that is bf16.
    precision = "tf32x3" if projected.dtype == torch.float32 else "tf32"
    solve_chunk[(chunks, H, B)](
        gates, weights.A_log, weights.dt_bias, limits, q, k, total, beta, inverse, scores,
        T, gates.stride(1), H, HAS_LENGTHS=lengths is not None, K=K, PRECISION=precision,
        num_warps=4,
    )  # fmt: skip
    tile = min(V, 32 if B * H < 64 else 64)
    walk_chunks[(V // tile, H, B)](
        projected, recurrent_state, conv_state, slots, limits, q, k, v, total, beta, inverse,
        scores, o, T, Z, C, H, chunks, HAS_LENGTHS=lengths is not None, K=K, V=V, W=W,
        TAPS=triton.next_power_of_2(W), TILE=tile, num_warps=4, num_stages=2,
    )  # fmt: skip
    return o
