"""Attention over a position-tagged ring: the specification.

B batch, T queries, C ring entries, H query heads, G key/value heads, D head dim. Every ring entry
carries the stream index of its token, -1 if it is empty. Softmax does not care about order, so
only membership counts: a query at index p sees the entries tagged p - window + 1 .. p.
"""

import torch
from torch import Tensor


def visible(query_index: Tensor, tags: Tensor, window: int | None) -> Tensor:
    """Which entries a query sees: [B, T] and [B, C] int64 -> [B, T, C] bool.

    Args:
        window: how many tokens a query sees, itself included; None for all before it.
    """
    queries, tags = query_index.unsqueeze(-1), tags.unsqueeze(-2)
    seen = (tags >= 0) & (tags <= queries)
    return seen if window is None else seen & (tags > queries - window)


def naive_ring_attention(q: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """Softmax attention in fp32.

    Args:
        q: [B, T, H, D], rotated; keys, values: [B, C, G, D], H a multiple of G.
        seen: [B, T, C] bool, from `visible`.

    Returns:
        [B, T, H, D] in q's dtype.
    """
    repeat = q.shape[2] // keys.shape[2]
    k, v = (x.float().repeat_interleave(repeat, 2) for x in (keys, values))
    scores = torch.einsum("bthd,bchd->bhtc", q.float(), k) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~seen.unsqueeze(1), float("-inf"))
    return torch.einsum("bhtc,bchd->bthd", scores.softmax(-1), v).to(q.dtype)
