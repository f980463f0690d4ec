"""The gated activation of an MLP: the specification."""

import torch.nn.functional as F
from torch import Tensor


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, where gate and up are the halves of the last dimension [..., 2 N]."""
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up
