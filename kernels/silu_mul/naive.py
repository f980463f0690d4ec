"""The gated activation of an MLP: the specification."""

import torch.nn.functional as F
from torch import Tensor

from kernels.fp8_linear.naive import Quantised, quantise


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, where gate and up are the halves of the last dimension [..., 2 N]."""
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def gated_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`silu_mul` of the linear layer with weight [2 N, K] and bias [2 N]: [..., K] -> [..., N]."""
    return silu_mul(F.linear(x, weight, bias))


def quantised_silu_mul(gate_up: Tensor) -> Quantised:
    """`silu_mul`, quantised by rows."""
    return quantise(silu_mul(gate_up))
