"""Gated DeltaNet: the layer whose memory is a matrix of fixed size (arXiv 2412.06464)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.fp8_linear.naive import Quantised
from kernels.gated_delta_net.naive import DeltaNetWeights
from model.append_plan import AppendPlan, join_rows, split_rows
from model.config import InfiniteVLConfig
from model.layers import RMSNorm, project
from model.state import DeltaNetState


class GatedDeltaNet(nn.Module):
    """Input projection, short convolution, gated delta rule, gated norm, output projection."""

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        self.num_heads = H = config.num_linear_heads
        self.key_dim = K = config.linear_head_dim
        self.value_dim = V = config.linear_value_dim
        # q, k, v, then the output gate, then the decay's a and the write strength's b
        self.in_sizes = (H * (2 * K + V), H * V, H, H)
        self.in_proj = nn.Linear(config.hidden_size, sum(self.in_sizes), bias=False)
        self.conv_weight = nn.Parameter(torch.empty(self.in_sizes[0], config.conv_size))
        self.A_log = nn.Parameter(torch.empty(H, dtype=torch.float32))
        self.dt_bias = nn.Parameter(torch.empty(H, dtype=torch.float32))
        self.o_norm = RMSNorm(V, config.linear_norm_eps)
        self.o_proj = nn.Linear(H * V, config.hidden_size, bias=False)
        # The rows of `in_proj` for a and b, where the others are 8-bit (model/precision.py).
        self.register_buffer("gate_weight", None, persistent=False)
        self.gate_weight: Tensor

    def weights(self) -> DeltaNetWeights:
        """What stands between the projections."""
        norm = self.o_norm
        return DeltaNetWeights(self.conv_weight, self.A_log, self.dt_bias, norm.weight, norm.eps)

    def forward(
        self, x: Tensor | Quantised, state: DeltaNetState, plans: Sequence[AppendPlan]
    ) -> Tensor:
        """x [N, hidden] -> [N, H V] for `o_proj`; updates the slots' states in place."""
        weights, outputs = self.weights(), []
        projected = project(self.in_proj, x, plans[0].ops)
        gates = projected[:, -2 * self.num_heads :]
        if isinstance(x, Quantised):
            # The two gates decide what is kept for ever: they stay out of the 8-bit product.
            assert x.wide is not None
            gates = F.linear(x.wide, self.gate_weight)
        parts = zip(split_rows(projected, plans), split_rows(gates, plans), plans, strict=True)
        for part, own_gates, plan in parts:
            outputs.append(
                plan.ops.gated_delta_net(
                    part,
                    own_gates,
                    weights,
                    state.recurrent_state,
                    state.conv_state,
                    plan.slots,
                    plan.lengths,
                    plan.counts,
                )
            )
        return join_rows(outputs)
