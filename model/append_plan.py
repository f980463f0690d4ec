"""What all layers share while one append goes through the decoder.

B rows, T tokens, C ring entries, D head dim. Made once an append from the pool's device-side
counters, so that nothing here depends on a number the host would have to know.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.window_attention.naive import visible
from model.config import InfiniteVLConfig
from model.rope import multimodal_rope
from model.state import NULL_SLOT, StatePool


@dataclass(frozen=True, slots=True)
class RingPlan:
    """Where an append's keys go in a ring, and which entries each token then sees.

    entries [B, T] int64; seen [B, T, C] bool.
    """

    entries: Tensor
    seen: Tensor


@dataclass(frozen=True, slots=True)
class AppendPlan:
    """Slots, padding, rotation and ring places of one append.

    Attributes:
        slots: [B] int64.
        lengths: [B] int64, how many of the T tokens count; None if all do.
        counts: [B, T] bool, which tokens count; None if all do.
        write_slots: [B, T] int64: the token's slot, or the null slot for padding.
        cos, sin: [B, T, 1, D] fp32.
        sliding, full: the rings of the sliding-window and of the full-attention layers.
    """

    slots: Tensor
    lengths: Tensor | None
    counts: Tensor | None
    write_slots: Tensor
    cos: Tensor
    sin: Tensor
    sliding: RingPlan
    full: RingPlan | None


def plan_append(
    config: InfiniteVLConfig,
    pool: StatePool,
    slots: Tensor,
    positions: Tensor,
    lengths: Tensor | None,
) -> AppendPlan:
    """Plan an append and mark its tokens in the rings' tags.

    Args:
        slots: [B] int64.
        positions: [B, T, 3] int64.
        lengths: [B] int64, or None if every token counts.
    """
    T = positions.shape[1]
    steps = torch.arange(T, device=slots.device)
    write_slots = slots[:, None].expand(-1, T)
    index = pool.num_tokens[slots][:, None] + steps  # [B, T], the token's place in its stream
    counts, query_index = None, index
    if lengths is not None:
        counts = steps < lengths[:, None]
        write_slots = torch.where(counts, write_slots, NULL_SLOT)
        # Padding looks at what the last real token sees: a row that sees nothing would be NaN.
        query_index = torch.minimum(index, index[:, :1] + lengths[:, None] - 1)
    cos, sin = multimodal_rope(positions, config.mrope_section, config.rope_theta)

    def ring(tags: Tensor, window: int | None) -> RingPlan:
        entries = index % tags.shape[1]
        tags[write_slots, entries] = index
        return RingPlan(entries, visible(query_index, tags[slots], window))

    return AppendPlan(
        slots=slots,
        lengths=lengths,
        counts=counts,
        write_slots=write_slots,
        cos=cos.unsqueeze(2),
        sin=sin.unsqueeze(2),
        sliding=ring(pool.sliding_tags, config.sliding_window),
        full=ring(pool.full_tags, None) if config.has_full_attention else None,
    )
