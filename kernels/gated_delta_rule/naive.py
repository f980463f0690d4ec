"""The gated delta rule, one token at a time: the specification.

B batch, T tokens, H heads, K key dim, V value dim. Per head, with a state S [K, V]
(arXiv 2412.06464, eq. 10):

    S <- exp(g) S;   S <- S + k (beta (v - k^T S))^T;   o = q^T S

A token with g = 0 and beta = 0 leaves the state as it was, which is how padding is expressed.
"""

import torch
from torch import Tensor

QK_NORM_EPS = 1e-6


def normalise_qk(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """L2-normalise q and k [..., K] (eps inside the root) and scale q by K**-0.5, in fp32."""
    q, k = q.float(), k.float()
    q = q * torch.rsqrt(q.square().sum(-1, keepdim=True) + QK_NORM_EPS) * q.shape[-1] ** -0.5
    k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + QK_NORM_EPS)
    return q, k


def naive_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Read and update the recurrent state, token after token.

    Args:
        q, k: [B, T, H, K], not yet normalised.
        v: [B, T, H, V].
        g: [B, T, H] fp32, the log of the decay, at most 0.
        beta: [B, T, H] fp32, in 0..1.
        state: [B, H, K, V] fp32; not written to.

    Returns:
        o [B, T, H, V] in v's dtype, and the new state [B, H, K, V] fp32.
    """
    q, k = normalise_qk(q, k)
    values = v.float()
    outputs = []
    for t in range(q.shape[1]):
        q_t, k_t, v_t = q[:, t], k[:, t], values[:, t]
        state = state * g[:, t, :, None, None].exp()
        error = v_t - torch.einsum("bhk,bhkv->bhv", k_t, state)
        state = state + torch.einsum("bhk,bhv->bhkv", k_t, beta[:, t, :, None] * error)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q_t, state))
    return torch.stack(outputs, 1).to(v.dtype), state
