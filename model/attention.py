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
        B, T, _ = x.shape
        H, G = self.num_heads, self.num_key_value_heads
        heads = self.qkv_proj(x).view(B, T, H + 2 * G, self.head_dim)
        turned = rotate(heads[:, :, : H + G], plan.cos, plan.sin)
        cache.keys[plan.write_slots, ring.entries] = turned[:, :, H:]
        cache.values[plan.write_slots, ring.entries] = heads[:, :, H + G :]
        # Written first, read after: a ring is as much longer than its window as one append.
        o = ring_attention(
            turned[:, :, :H].contiguous(),
            cache.keys[plan.slots],
            cache.values[plan.slots],
            ring.seen,
        )
        return self.o_proj(o.reshape(B, T, -1))
