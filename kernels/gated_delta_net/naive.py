"""All of a Gated DeltaNet layer between its two projections, on a slot's state: the specification.

Short convolution, gates, gated delta rule, gated norm (arXiv 2412.06464, section 3.4). B rows of T
tokens, S slots, H heads, K key dim, V value dim, W convolution width, C = H (2 K + V) channels.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from kernels.gated_delta_rule.chunk import chunk_gated_delta_rule
from kernels.gated_delta_rule.naive import naive_gated_delta_rule
from kernels.rms_norm.naive import gated_rms_norm
from kernels.short_conv.naive import short_conv


class DeltaNetWeights(NamedTuple):
    """conv [C, W]; A_log, dt_bias [H] fp32; norm [V]; eps of the norm."""

    conv: Tensor
    A_log: Tensor
    dt_bias: Tensor
    norm: Tensor
    eps: float

    def sizes(self) -> tuple[int, int, int]:
        """H, K and V."""
        H, V = self.A_log.numel(), self.norm.numel()
        return H, (self.conv.shape[0] // H - V) // 2, V


def gated_delta_net(
    projected: Tensor,
    gates: Tensor,
    weights: DeltaNetWeights,
    recurrent_state: Tensor,
    conv_state: Tensor,
    slots: Tensor,
    lengths: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """Read and update the slots' state in place.

    Args:
        projected: [B, T, Z]: q, k and v before the convolution, then the output gate; what is
            beyond these C + H V is not read.
        gates: [B, T, 2 H]: the decay's a and the write strength's b.
        recurrent_state: [S, H, K, V] fp32; conv_state: [S, W - 1, C]; both are written to.
        slots: [B] int64, all different but for the null slot.
        lengths: [B] int64, how many of the T tokens count; None for all. counts: [B, T] bool, the
            same as a mask.

    Returns:
        [B, T, H V] for the output projection; rows past a length mean nothing.
    """
    B, T, _ = projected.shape
    H, _, V = weights.sizes()
    inputs, gate, conv_after = prepare(
        projected, gates, weights, conv_state[slots], lengths, counts
    )
    rule = naive_gated_delta_rule if T == 1 else chunk_gated_delta_rule
    o, state = rule(*inputs, recurrent_state[slots])
    conv_state[slots] = conv_after
    recurrent_state[slots] = state
    return gated_rms_norm(o, gate, weights.norm, weights.eps).view(B, T, H * V)


def prepare(
    projected: Tensor,
    gates: Tensor,
    weights: DeltaNetWeights,
    conv_state: Tensor,
    lengths: Tensor | None,
    counts: Tensor | None,
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor, Tensor]:
    """What stands between the input projection and the delta rule.

    Args:
        conv_state: [B, W - 1, C], the rows' own.

    Returns:
        q, k [B, T, H, K], v [B, T, H, V], g, beta [B, T, H] fp32; the output gate [B, T, H, V];
        and the convolution's new state.
    """
    B, T, _ = projected.shape
    H, K, V = weights.sizes()
    C = H * (2 * K + V)
    qkv, gate = projected[..., :C], projected[..., C : C + H * V]
    a, b = gates.split(H, -1)
    qkv, conv_state = short_conv(qkv, weights.conv, conv_state, lengths)
    q, k, v = qkv.split((H * K, H * K, H * V), -1)
    g = -weights.A_log.exp() * F.softplus(a.float() + weights.dt_bias)
    beta = b.float().sigmoid()
    if counts is not None:
        # No decay and no write: padding leaves the recurrent state alone.
        g, beta = g * counts[..., None], beta * counts[..., None]
    q, k, v = q.reshape(B, T, H, K), k.reshape(B, T, H, K), v.reshape(B, T, H, V)
    return (q, k, v, g, beta), gate.unflatten(-1, (H, V)), conv_state
