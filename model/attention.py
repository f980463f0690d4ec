"""Attention of new tokens over a slot's ring: sliding-window layers and full-attention layers."""

from torch import Tensor, nn

from kernels.window_attention.sdpa import ring_attention
from model.append_plan import AppendPlan, RingPlan
from model.config import InfiniteVLConfig
from model.rope import rotate
from model.state import RingKVCache


class RingAttention(nn.Module):
    """Grouped-query attention with rotated keys kept in a ring.

    The two layer types differ only in the ring they use: a window's, or the whole context's.
    """

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.num_heads = config.num_attention_heads
        self.num_key_value_heads = config.num_key_value_heads
        rows = (self.num_heads + 2 * self.num_key_value_heads) * self.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, rows)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cache: RingKVCache, plan: AppendPlan, ring: RingPlan) -> Tensor:
        """x [B, T, hidden] -> [B, T, hidden]; writes the new keys and values into the ring."""
        q, k, v = self.project(x, plan.cos, plan.sin)
        cache.keys[plan.write_slots, ring.entries] = k
        cache.values[plan.write_slots, ring.entries] = v
        # Written first, read after: a ring is as much longer than its window as one append.
        o = ring_attention(q, cache.keys[plan.slots], cache.values[plan.slots], ring.seen)
        return self.o_proj(o.flatten(2))

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, hidden] -> rotated q [B, T, H, D] and k [B, T, G, D], and v [B, T, G, D]."""
        H, G = self.num_heads, self.num_key_value_heads
        heads = self.qkv_proj(x).view(*x.shape[:2], H + 2 * G, self.head_dim)
        q, k = rotate(heads[:, :, : H + G], cos, sin).split((H, G), 2)
        return q, k, heads[:, :, H + G :]
