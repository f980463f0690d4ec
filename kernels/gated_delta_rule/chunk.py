"""The gated delta rule by chunks, in plain torch: matrix products instead of a token loop.

Within a chunk of C tokens let G be the running sum of g. Every token's write is
u_i = beta_i (v_i - exp(G_i) k_i^T S - sum_{j<i} exp(G_i - G_j) (k_i . k_j) u_j), where S is the
state before the chunk: a unit lower triangular system, solved once for all V columns
(arXiv 2412.06464, section 3.3, with the state moved to the right-hand side). Only differences
G_i - G_j with j <= i are exponentiated, so nothing overflows.
"""

import torch
from torch import Tensor

from kernels.gated_delta_rule.naive import normalise_qk

CHUNK = 64


def chunk_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Same arguments and results as `naive_gated_delta_rule`; differentiable."""
    T = q.shape[1]
    q, k = normalise_qk(q, k)
    # [B, H, T, ...]: one matrix product a head
    q, k, values = (x.transpose(1, 2) for x in (q, k, v.float()))
    g, beta = g.transpose(1, 2), beta.transpose(1, 2).unsqueeze(-1)
    outputs = []
    for start in range(0, T, CHUNK):
        part = slice(start, start + CHUNK)
        o, state = _chunk(
            q[:, :, part], k[:, :, part], values[:, :, part], g[..., part], beta[:, :, part], state
        )
        outputs.append(o)
    o = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
    return o.transpose(1, 2).to(v.dtype), state


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    # In fp64: after one strong decay an fp32 sum would lose the weak ones that follow.
    total = g.double().cumsum(-1)  # [B, H, C]
    decay = (total.unsqueeze(-1) - total.unsqueeze(-2)).float().tril().exp().tril()  # [B, H, C, C]
    from_start = total.exp().float().unsqueeze(-1)  # [B, H, C, 1]
    # solve_triangular takes the diagonal as ones and reads only what is below it
    system = (k @ k.transpose(-1, -2)) * decay * beta
    right = beta * (v - from_start * (k @ state))
    writes = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    o = from_start * (q @ state) + ((q @ k.transpose(-1, -2)) * decay) @ writes
    to_end = (total[..., -1:] - total).exp().float().unsqueeze(-1)  # [B, H, C, 1]
    state = from_start[..., -1:, :] * state + (k * to_end).transpose(-1, -2) @ writes
    return o, state
