"""Attention of a vision block: rotated queries and keys, within windows of a frame.

B frames, P patches in window order, H heads, D head dim, L patches a window.
"""

import torch.nn.functional as F
from torch import Tensor

from kernels.rotary.naive import rotate


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention, [B, P, H, D] each -> [B, P, H, D]."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def vision_attention(qkv: Tensor, cos: Tensor, sin: Tensor, H: int, L: int) -> Tensor:
    """Attention within whole windows.

    Args:
        qkv: [B, P, 3 H D].
        cos, sin: [P, 1, D] fp32.
        L: patches a window, P a multiple of it.

    Returns:
        [B, P, H D].
    """
    B, P, width = qkv.shape
    D = width // (3 * H)
    heads = qkv.view(B, P, 3 * H, D)
    q, k = rotate(heads[:, :, : 2 * H], cos, sin).split(H, 2)
    v = heads[:, :, 2 * H :]
    q, k, v = (t.reshape(-1, L, H, D) for t in (q, k, v))
    return attend(q, k, v).reshape(B, P, H * D)
