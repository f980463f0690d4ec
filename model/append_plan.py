"""What all layers share while one append goes through the decoder.

B rows of T tokens, C ring entries, D head dim. Made once an append from the pool's device-side
counters, so that nothing here depends on a number the host would have to know. Several appends may
share a step: their tokens lie one after the other, [N, ...], in all that works token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kernels.ops import Ops
from kernels.window_attention.naive import (
    NO_WINDOW,
    RingPlaces,
    open_blocks,
    relative_tags,
    visible,
)
from model.config import InfiniteVLConfig
from model.rope import multimodal_rope
from model.state import NULL_SLOT, StatePool

Wanted = Literal["all", "last", "none"]


class Append(NamedTuple):
    """Tokens for some slots.

    Attributes:
        x: [B, T, hidden] embeddings, T at most the pool's max_append.
        positions: [B, T, 3] int64.
        slots: [B] int64, all different but for the null slot.
        lengths: [B] int64: only the first so many tokens of a row count; None for all.
        wanted: whose hidden vectors are asked for: the last layer makes no others.
    """

    x: Tensor
    positions: Tensor
    slots: Tensor
    lengths: Tensor | None = None
    wanted: Wanted = "all"


@dataclass(frozen=True, slots=True)
class AppendPlan:
    """Slots, padding, rotation and ring places of one append.

    Attributes:
        shape: B and T.
        slots: [B] int64.
        lengths: [B] int64, how many of the T tokens count; None if all do.
        counts: [B, T] bool, which tokens count; None if all do.
        cos, sin: [B, T, 1, D] fp32.
        sliding, full: the rings of the sliding-window and of the full-attention layers.
        ops: the ops that serve it.
    """

    shape: tuple[int, int]
    slots: Tensor
    lengths: Tensor | None
    counts: Tensor | None
    cos: Tensor
    sin: Tensor
    sliding: RingPlaces
    full: RingPlaces | None
    ops: Ops


def plan_append(config: InfiniteVLConfig, pool: StatePool, append: Append, ops: Ops) -> AppendPlan:
    """Plan an append and mark its tokens in the rings' tags."""
    slots, lengths = append.slots, append.lengths
    B, T = append.positions.shape[:2]
    numbers = torch.arange(T, device=slots.device)
    steps = numbers.expand(B, T)
    write_slots = slots[:, None].expand(B, T)
    first = pool.num_tokens[slots]
    index = first[:, None] + numbers  # [B, T], the token's place in its stream
    counts = None
    if lengths is not None:
        counts = numbers < lengths[:, None]
        write_slots = torch.where(counts, write_slots, NULL_SLOT)
        steps = torch.minimum(steps, lengths[:, None] - 1)
    cos, sin = multimodal_rope(append.positions, config.mrope_section, config.rope_theta)
    steps, write_slots = steps.int().contiguous(), write_slots.contiguous()

    def ring(tags: Tensor, window: int) -> RingPlaces:
        entries = index % tags.shape[1]
        tags[write_slots, entries] = index
        relative = relative_tags(tags[slots], first, window)
        places = RingPlaces(write_slots, entries, steps, relative, window)
        if ops.fused:
            return places._replace(open_blocks=open_blocks(relative, T, window))
        return places._replace(seen=visible(steps, relative, window))

    return AppendPlan(
        shape=(B, T),
        slots=slots,
        lengths=lengths,
        counts=counts,
        cos=cos.unsqueeze(2),
        sin=sin.unsqueeze(2),
        sliding=ring(pool.sliding_tags, config.sliding_window),
        full=ring(pool.full_tags, NO_WINDOW) if config.has_full_attention else None,
        ops=ops,
    )


def split_rows(x: Tensor, plans: Sequence[AppendPlan]) -> list[Tensor]:
    """[N, ...] -> each append's own [B, T, ...]."""
    if len(plans) == 1:
        return [x.unflatten(0, plans[0].shape)]
    parts = x.split([plan.shape[0] * plan.shape[1] for plan in plans])
    return [part.unflatten(0, plan.shape) for part, plan in zip(parts, plans, strict=True)]


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """Each append's [B, T, ...] -> [N, ...]."""
    rows = [part.flatten(0, 1) for part in parts]
    return rows[0] if len(rows) == 1 else torch.cat(rows)
