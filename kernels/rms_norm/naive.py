"""RMSNorm, alone, after a residual sum, and gated: the specification."""

import torch.nn.functional as F
from torch import Tensor

from kernels.fp8_linear.naive import Quantised, quantise


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, in x's dtype."""
    # One dtype for both, or torch takes a slow path (fp32 weights under autocast).
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)


def add_rms_norm(x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The residual stream x + delta, and its norm; all [..., N] in one dtype."""
    x = x + delta
    return x, rms_norm(x, weight, eps)


def gated_rms_norm(o: Tensor, gate: Tensor, weight: Tensor, eps: float) -> Tensor:
    """rms_norm(o) * silu(gate), all [..., V] (arXiv 2412.06464, section 3.4)."""
    return rms_norm(o, weight, eps) * F.silu(gate)


def quantised_rms_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, *, wide: bool
) -> tuple[Tensor, Quantised]:
    """`add_rms_norm` (without a sum if there is no delta) with the norm quantised by rows, and
    `wide` as well or not."""
    x = x if delta is None else x + delta
    normed = quantise(rms_norm(x, weight, eps))
    return x, normed if wide else normed._replace(wide=None)
