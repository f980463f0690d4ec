"""Rotation and attention of a vision block: one launch for windows of one tile.

A whole frame's attention is left to torch's FlashAttention, after a launch that rotates.
"""

import triton
import triton.language as tl
from torch import Tensor

from kernels.vision_attention.naive import attend

_PRECISION: tl.constexpr = tl.constexpr("tf32x3")
_LOG2_E = 1.4426950408889634
_LONGEST_TILE = 64


def vision_attention(qkv: Tensor, cos: Tensor, sin: Tensor, H: int, L: int) -> Tensor:
    """`naive.vision_attention`."""
    B, P, width = qkv.shape
    D = width // (3 * H)
    qkv = qkv.contiguous()
    half = max(16, triton.next_power_of_2(D // 2))
    if L <= _LONGEST_TILE and L & (L - 1) == 0 and L >= 16:
        out = qkv.new_empty(B, P, H * D)
        _attend_window[(P // L, H, B)](
            qkv, cos, sin, out, P, D**-0.5 * _LOG2_E, H=H, D=D, L=L, HALF=half,
            num_warps=4, num_stages=1,
        )  # fmt: skip
        return out
    rotated = qkv.new_empty(2, B, P, H, D)
    _rotate[(P, B)](
        qkv, cos, sin, rotated, P, B, H=H, D=D, HEADS=triton.next_power_of_2(H), HALF=half,
        num_warps=4,
    )  # fmt: skip
    v = qkv.view(B, P, 3, H, D)[:, :, 2]
    q, k, v = (t.reshape(-1, L, H, D) for t in (rotated[0], rotated[1], v))
    return attend(q, k, v).reshape(B, P, H * D)


@triton.jit
def _rotated(x_ptr, cos_ptr, sin_ptr, at, patch, D: tl.constexpr, HALF: tl.constexpr):
    """The two halves of vectors that lie at `at`, turned by their patch's angles."""
    i = tl.arange(0, HALF)[None, :]
    inside = (i < D // 2) & (at >= 0)
    a = tl.load(x_ptr + at + i, mask=inside, other=0.0)
    b = tl.load(x_ptr + at + i + D // 2, mask=inside, other=0.0)
    # The angles of the two halves are the same.
    cos = tl.load(cos_ptr + patch * D + i, mask=i < D // 2, other=0.0)
    sin = tl.load(sin_ptr + patch * D + i, mask=i < D // 2, other=0.0)
    wide_a, wide_b = a.to(tl.float32), b.to(tl.float32)
    return (wide_a * cos - wide_b * sin).to(a.dtype), (wide_b * cos + wide_a * sin).to(a.dtype)


@triton.jit
def _rotate(
    qkv_ptr, cos_ptr, sin_ptr, out_ptr, P, B,
    H: tl.constexpr, D: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """All heads of a patch, queries and keys: grid (P, B)."""
    patch, b = tl.program_id(0), tl.program_id(1)
    head = tl.arange(0, HEADS)[:, None]
    i = tl.arange(0, HALF)[None, :]
    inside = (head < H) & (i < D // 2)
    token = b.to(tl.int64) * P + patch
    for part in tl.static_range(2):
        at = tl.where(head < H, (token * 3 + part) * H * D + head * D, -1)
        x_a, x_b = _rotated(qkv_ptr, cos_ptr, sin_ptr, at, patch, D, HALF)
        out_at = (part * (P * B) + token) * H * D + head * D + i
        tl.store(out_ptr + out_at, x_a, mask=inside)
        tl.store(out_ptr + out_at + D // 2, x_b, mask=inside)


@triton.jit
def _attend_window(
    qkv_ptr, cos_ptr, sin_ptr, out_ptr, P, softmax_scale,
    H: tl.constexpr, D: tl.constexpr, L: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """A window of a head: grid (P / L, H, B)."""
    window, head, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    patch = window * L + tl.arange(0, L)[:, None]
    at = (b.to(tl.int64) * P + patch) * 3 * H * D + head * D
    q_a, q_b = _rotated(qkv_ptr, cos_ptr, sin_ptr, at, patch, D, HALF)
    k_a, k_b = _rotated(qkv_ptr, cos_ptr, sin_ptr, at + H * D, patch, D, HALF)
    scores = tl.dot(q_a, tl.trans(k_a), input_precision=_PRECISION)
    scores += tl.dot(q_b, tl.trans(k_b), input_precision=_PRECISION)
    scores *= softmax_scale
    p = tl.exp2(scores - tl.max(scores, 1)[:, None])
    p = p / tl.sum(p, 1)[:, None]
    i = tl.arange(0, HALF)[None, :]
    inside = i < D // 2
    v_ptr = qkv_ptr + at + 2 * H * D + i
    p = p.to(q_a.dtype)
    out_at = (b.to(tl.int64) * P + patch) * H * D + head * D + i
    dtype = out_ptr.dtype.element_ty
    v_a = tl.load(v_ptr, mask=inside, other=0.0)
    o_a = tl.dot(p, v_a, input_precision=_PRECISION)
    tl.store(out_ptr + out_at, o_a.to(dtype), mask=inside)
    v_b = tl.load(v_ptr + D // 2, mask=inside, other=0.0)
    o_b = tl.dot(p, v_b, input_precision=_PRECISION)
    tl.store(out_ptr + out_at + D // 2, o_b.to(dtype), mask=inside)
