"""Rotary embedding: the specification."""

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) of the last dimension by its angle; fp32 inside."""
    a, b = x.float().chunk(2, -1)
    turned = torch.cat([-b, a], -1)
    return (x * cos + turned * sin).to(x.dtype)
