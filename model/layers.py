"""Small building blocks shared by the vision tower and the decoder."""

import torch
from torch import Tensor, nn

from kernels.ops import PLAIN, Ops


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor, ops: Ops = PLAIN) -> Tensor:
        return ops.rms_norm(x, self.weight, self.eps)

    def after(self, x: Tensor, delta: Tensor | None, ops: Ops) -> tuple[Tensor, Tensor]:
        """The residual stream with a layer's output added to it, and its norm."""
        if delta is None:
            return x, self(x, ops)
        return ops.add_rms_norm(x, delta, self.weight, self.eps)


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x)), with gate and up as one product."""

    def __init__(self, size: int, intermediate_size: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(size, 2 * intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, size, bias=bias)

    def forward(self, x: Tensor, ops: Ops = PLAIN) -> Tensor:
        return self.down_proj(ops.silu_mul(self.gate_up_proj(x)))
