"""Small building blocks shared by the vision tower and the decoder."""

import torch
from torch import Tensor, nn

from kernels.fp8_linear.naive import Quantised
from kernels.ops import PLAIN, Ops


class Fp8Linear(nn.Module):
    """A linear layer whose weights are 8-bit floats, each row with a scale of its own."""

    def __init__(self, weight: Quantised, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("values", weight.values, persistent=False)
        self.register_buffer("scale", weight.scale, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.values: Tensor
        self.scale: Tensor
        self.bias: Tensor | None

    def forward(self, x: Quantised, ops: Ops, dtype: torch.dtype) -> Tensor:
        """Rows [..., K] -> [..., N] in `dtype`."""
        return ops.fp8_linear(x, Quantised(self.values, self.scale), self.bias, dtype)


def project(linear: nn.Module, x: Tensor | Quantised, ops: Ops) -> Tensor:
    """Through a linear layer of either precision; x is quantised here if no op before it has."""
    if isinstance(linear, Fp8Linear):
        if isinstance(x, Tensor):
            return linear(ops.quantise(x), ops, x.dtype)
        assert x.wide is not None
        return linear(x, ops, x.wide.dtype)
    assert isinstance(x, Tensor)
    return linear(x)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension.

    Attributes:
        quantised: its result goes into 8-bit products.
    """

    quantised = False

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor, ops: Ops = PLAIN) -> Tensor:
        return ops.rms_norm(x, self.weight, self.eps)

    def after(self, x: Tensor, delta: Tensor | None, ops: Ops) -> tuple[Tensor, Tensor | Quantised]:
        """The residual stream with a layer's output added to it, and its norm."""
        if self.quantised:
            return ops.quantised_rms_norm(x, delta, self.weight, self.eps)
        if delta is None:
            return x, self(x, ops)
        return ops.add_rms_norm(x, delta, self.weight, self.eps)


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x)), with gate and up as one product."""

    def __init__(self, size: int, intermediate_size: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(size, 2 * intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, size, bias=bias)

    def forward(self, x: Tensor | Quantised, ops: Ops = PLAIN) -> Tensor:
        gate_up = project(self.gate_up_proj, x, ops)
        if isinstance(self.down_proj, Fp8Linear):
            return self.down_proj(ops.quantised_silu_mul(gate_up), ops, gate_up.dtype)
        return project(self.down_proj, ops.silu_mul(gate_up), ops)
