"""Attention over a position-tagged ring: the specification.

B batch, T queries, C ring entries, H query heads, G key/value heads, D head dim. Every ring entry
carries the stream index of its token, -1 if it is empty. Softmax does not care about order, so
only membership counts: a query at index p sees the entries tagged p - window + 1 .. p.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class RingPlaces(NamedTuple):
    """Where an append's tokens go in a ring and what they see; the same for all layers of a kind.

    write_slots [B, T] int64: the token's slot, the null slot for padding; entries [B, T] int64;
    steps [B, T] int32: a token's number within the append, padding counting as the last real one,
    since a row that sees nothing would be NaN; tags [B, C] int32: the number within the append of
    each entry's token, negative for those before it; window: how many tokens a query sees, itself
    included. For the fused op: open_blocks [B, C / OPEN_BLOCK] int32, 1 where every query sees
    every entry of a block, so that no mask is needed. For the plain one: seen [B, T, C] bool.
    """

    write_slots: Tensor
    entries: Tensor
    steps: Tensor
    tags: Tensor
    window: int
    open_blocks: Tensor | None = None
    seen: Tensor | None = None


OPEN_BLOCK = 64
# What padding is written to; nobody reads it.
NULL_SLOT = 0
# The tag of an entry that nobody sees.
UNSEEN = -(2**31)
# A window without an end.
NO_WINDOW = 2**30


def relative_tags(tags: Tensor, first: Tensor, window: int) -> Tensor:
    """Tags [B, C] int64 as numbers within an append that begins at index first [B]: int32."""
    relative = (tags - first[:, None]).clamp(min=-window)
    return relative.masked_fill(tags < 0, UNSEEN).int()


def visible(steps: Tensor, tags: Tensor, window: int) -> Tensor:
    """Which entries a query sees: [B, T] and [B, C], both within the append -> [B, T, C] bool."""
    queries, tags = steps.unsqueeze(-1), tags.unsqueeze(-2)
    return (tags <= queries) & (tags > queries - window)


def open_blocks(tags: Tensor, num_queries: int, window: int) -> Tensor:
    """Blocks of entries that each of so many queries sees whole: [B, C] -> [B, blocks] int32."""
    B, C = tags.shape
    padded = F.pad(tags, (0, -C % OPEN_BLOCK), value=UNSEEN).view(B, -1, OPEN_BLOCK)
    oldest, newest = padded.amin(-1), padded.amax(-1)
    return ((newest <= 0) & (oldest > num_queries - 1 - window)).int()


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
