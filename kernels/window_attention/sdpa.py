"""Attention over a position-tagged ring by torch's scaled_dot_product_attention."""

import torch.nn.functional as F
from torch import Tensor

from kernels.rotary.naive import rotate
from kernels.window_attention.naive import RingPlaces


def append_attention(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    places: RingPlaces,
) -> Tensor:
    """Write new keys and values into the slots' rings, then attend.

    Written first, read after: a ring is as much longer than its window as one append.

    Args:
        qkv: [B, T, (H + 2 G) D], not rotated.
        cos, sin: [B, T, 1, D] fp32.
        keys, values: [S, C, G, D]; written to.
        slots: [B] int64.

    Returns:
        [B, T, H D].
    """
    G, D = keys.shape[2:]
    heads = qkv.view(*qkv.shape[:2], -1, D)
    H = heads.shape[2] - 2 * G
    q, k = rotate(heads[:, :, : H + G], cos, sin).split((H, G), 2)
    keys[places.write_slots, places.entries] = k
    values[places.write_slots, places.entries] = heads[:, :, H + G :]
    assert places.seen is not None
    return ring_attention(q, keys[slots], values[slots], places.seen).flatten(2)


def ring_attention(q: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """Same arguments and results as `naive_ring_attention`.

    The H / G query heads that share a key head become rows of one matrix, so keys and values are
    read once and never repeated.
    """
    B, T, H, D = q.shape
    G = keys.shape[2]
    rows = q.reshape(B, T, G, H // G, D).permute(0, 2, 3, 1, 4).reshape(B, G, H // G * T, D)
    mask = seen[:, None, None].expand(B, 1, H // G, T, -1).reshape(B, 1, H // G * T, -1)
    o = F.scaled_dot_product_attention(
        rows, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask
    )
    return o.view(B, G, H // G, T, D).permute(0, 3, 1, 2, 4).reshape(B, T, H, D)
