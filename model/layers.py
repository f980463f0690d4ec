"""Small building blocks shared by the vision tower and the decoder."""

import torch
from torch import Tensor, nn

from kernels.fp8_linear.naive import Quantised
from kernels.ops import PLAIN, Ops


class Fp8Linear(nn.Module):
    """A linear layer whose weights are 8-bit floats, each row with a scale of its own."""

    def __init__(self, weight: Quantised, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("values", weight.values, persistent=False)
        self.register_buffer("scale", weight.scale, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.values: Tensor
        self.scale: Tensor
        self.bias: Tensor | None

    def forward(self, x: Quantised, ops: Ops) -> Tensor:
        """Rows [..., K] -> [..., N] in `dtype`."""
        return ops.fp8_linear(x, Quantised(self.values, self.scale), self.bias, self.dtype)


def project(linear: nn.Module, x: Tensor | Quantised, ops: Ops) -> Tensor:
    """Through a linear layer of either precision; x is quantised here if no op before it has."""
    if isinstance(linear, Fp8Linear):
        return linear(ops.quantise(x) if isinstance(x, Tensor) else x, ops)
    assert isinstance(x, Tensor)
    return linear(x)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension.

    Attributes:
        quantised: its result goes into 8-bit products.
        wide: it is wanted in full as well.
    """

    quantised = wide = False

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor, ops: Ops = PLAIN) -> Tensor:
        return ops.rms_norm(x, self.weight, self.eps)

    def after(self, x: Tensor, delta: Tensor | None, ops: Ops) -> tuple[Tensor, Tensor | Quantised]:
        """The residual stream with a layer's output added to it, and its norm."""
        if self.quantised:
            return ops.quantised_rms_norm(x, delta, self.weight, self.eps, wide=self.wide)
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
        if isinstance(x, Quantised):
            gate_up = project(self.gate_up_proj, x, ops)
            return project(self.down_proj, ops.quantised_silu_mul(gate_up), ops)
        linear = self.gate_up_proj
        return self.down_proj(ops.gated_product(x, linear.weight, linear.bias))
