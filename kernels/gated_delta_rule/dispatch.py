"""Which gated delta rule serves a call."""

from torch import Tensor

from kernels.gated_delta_rule.chunk import chunk_gated_delta_rule
from kernels.gated_delta_rule.naive import naive_gated_delta_rule


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, *, plain: bool = False
) -> tuple[Tensor, Tensor]:
    """`naive_gated_delta_rule` by the fastest agreeing version for the device and length.

    Args:
        plain: keep to plain torch on CUDA too (exact fp32, and differentiable).
    """
    if q.is_cuda and not plain:
        from kernels.gated_delta_rule.fla import fla_gated_delta_rule

        return fla_gated_delta_rule(q, k, v, g, beta, state)
    if q.shape[1] == 1:
        return naive_gated_delta_rule(q, k, v, g, beta, state)
    return chunk_gated_delta_rule(q, k, v, g, beta, state)
