"""Gated DeltaNet: the layer whose memory is a matrix of fixed size (arXiv 2412.06464)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.gated_delta_rule.dispatch import gated_delta_rule
from kernels.short_conv.naive import short_conv
from model.append_plan import AppendPlan
from model.config import InfiniteVLConfig
from model.layers import RMSNorm
from model.state import DeltaNetState


class GatedDeltaNet(nn.Module):
    """Short convolution, gated delta rule, gated norm, output projection."""

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        self.num_heads = H = config.num_linear_heads
        self.key_dim = K = config.linear_head_dim
        self.value_dim = V = config.linear_value_dim
        self.plain = False
        # q, k, v, then the output gate, then the decay's a and the write strength's b
        self.in_sizes = (H * (2 * K + V), H * V, H, H)
        self.in_proj = nn.Linear(config.hidden_size, sum(self.in_sizes), bias=False)
        self.conv_weight = nn.Parameter(torch.empty(self.in_sizes[0], config.conv_size))
        self.A_log = nn.Parameter(torch.empty(H, dtype=torch.float32))
        self.dt_bias = nn.Parameter(torch.empty(H, dtype=torch.float32))
        self.o_norm = RMSNorm(V, config.linear_norm_eps)
        self.o_proj = nn.Linear(H * V, config.hidden_size, bias=False)

    def forward(self, x: Tensor, state: DeltaNetState, plan: AppendPlan) -> Tensor:
        """x [B, T, hidden] -> [B, T, hidden]; updates the slots' states in place."""
        past = state.conv_state[plan.slots]
        projected = self.in_proj(x)
        inputs, gate, conv_state = self.prepare(projected, past, plan.lengths, plan.counts)
        q, k, v, g, beta = inputs
        o, recurrent_state = gated_delta_rule(
            q, k, v, g, beta, state.recurrent_state[plan.slots], plain=self.plain
        )
        state.conv_state[plan.slots] = conv_state
        state.recurrent_state[plan.slots] = recurrent_state
        return self.output(o, gate)

    def prepare(
        self, projected: Tensor, conv_state: Tensor, lengths: Tensor | None, counts: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor, Tensor]:
        """What stands between the input projection and the delta rule.

        Args:
            projected: [B, T, sum of in_sizes], from `in_proj`.
            conv_state: [B, W - 1, in_sizes[0]], the convolution's inputs before.
            lengths, counts: as in AppendPlan.

        Returns:
            q, k [B, T, H, K], v [B, T, H, V], g, beta [B, T, H] fp32; the output gate
            [B, T, H, V]; and the convolution's new state.
        """
        B, T, _ = projected.shape
        H, K, V = self.num_heads, self.key_dim, self.value_dim
        qkv, gate, a, b = projected.split(self.in_sizes, -1)
        qkv, conv_state = short_conv(qkv, self.conv_weight, conv_state, lengths)
        q, k, v = qkv.split((H * K, H * K, H * V), -1)
        g = -self.A_log.exp() * F.softplus(a.float() + self.dt_bias)
        beta = b.float().sigmoid()
        if counts is not None:
            # No decay and no write: padding leaves the recurrent state alone.
            g, beta = g * counts[..., None], beta * counts[..., None]
        q, k, v = q.reshape(B, T, H, K), k.reshape(B, T, H, K), v.reshape(B, T, H, V)
        return (q, k, v, g, beta), gate.view(B, T, H, V), conv_state

    def output(self, o: Tensor, gate: Tensor) -> Tensor:
        """What comes after: gated norm and projection, [B, T, H, V] -> [B, T, hidden]."""
        return self.o_proj((self.o_norm(o) * F.silu(gate)).flatten(2))
