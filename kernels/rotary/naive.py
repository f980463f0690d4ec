"""Rotary embedding: the specification."""

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) of the last dimension by its angle; fp32 inside."""
    wide = x.float()
    a, b = wide.chunk(2, -1)
    turned = torch.cat([-b, a], -1).mul_(sin)
    return torch.addcmul(turned, wide, cos).to(x.dtype)
