"""Attention of new tokens over a slot's ring: sliding-window layers and full-attention layers."""

from collections.abc import Sequence

from torch import Tensor, nn

from kernels.fp8_linear.naive import Quantised
from kernels.rotary.naive import rotate
from model.append_plan import AppendPlan, join_rows, split_rows
from model.config import InfiniteVLConfig
from model.layers import project
from model.state import RingKVCache


class RingAttention(nn.Module):
    """Grouped-query attention with rotated keys kept in a ring.

    The two layer types differ only in the ring they use: a window's, or the whole context's.
    """

    def __init__(self, config: InfiniteVLConfig, *, sliding: bool) -> None:
        super().__init__()
        self.sliding = sliding
        self.head_dim = config.head_dim
        self.num_heads = config.num_attention_heads
        self.num_key_value_heads = config.num_key_value_heads
        rows = (self.num_heads + 2 * self.num_key_value_heads) * self.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, rows)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor | Quantised, cache: RingKVCache, plans: Sequence[AppendPlan]
    ) -> Tensor:
        """x [N, hidden] -> [N, H D] for `o_proj`; writes keys and values into the ring."""
        outputs = []
        for qkv, plan in zip(
            split_rows(project(self.qkv_proj, x, plans[0].ops), plans), plans, strict=True
        ):
            places = plan.sliding if self.sliding else plan.full
            outputs.append(
                plan.ops.append_attention(
                    qkv, plan.cos, plan.sin, cache.keys, cache.values, plan.slots, places
                )
            )
        return join_rows(outputs)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, hidden] -> rotated q [B, T, H, D] and k [B, T, G, D], and v [B, T, G, D]."""
        H, G = self.num_heads, self.num_key_value_heads
        heads = self.qkv_proj(x).view(*x.shape[:2], H + 2 * G, self.head_dim)
        q, k = rotate(heads[:, :, : H + G], cos, sin).split((H, G), 2)
        return q, k, heads[:, :, H + G :]
