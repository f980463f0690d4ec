"""The gated delta rule over many chunks at once, for training.

All work that does not cross chunks is batched; only the state crosses, by one product a chunk:
S[c + 1] = A[c] S[c] + U[c]. Its gradient is the same scan run backward. The states at the chunks'
ends are kept: they are where questions branch off.

B streams, N chunks of C tokens, H heads, K key dim, V value dim.
"""

from typing import Any

import torch
from torch import Tensor

from kernels.gated_delta_rule.naive import normalise_qk


def delta_scan(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """The gated delta rule from an empty state.

    Args:
        q, k: [B, N * C, H, K], not normalised; v: [B, N * C, H, V]; g, beta: [B, N * C, H].
        chunk: C.

    Returns:
        o [B, N * C, H, V] in v's dtype, and the states after each chunk [B, N, H, K, V] fp32.
    """
    B, T, H, K = q.shape
    dtype = v.dtype
    q, k = normalise_qk(q, k)
    # [B, H, N, C, ...]
    q, k, v = (x.float().unflatten(1, (-1, chunk)).permute(0, 3, 1, 2, 4) for x in (q, k, v))
    g, beta = (x.float().unflatten(1, (-1, chunk)).permute(0, 3, 1, 2) for x in (g, beta))
    total, beta = g.cumsum(-1), beta.unsqueeze(-1)
    decay = (total.unsqueeze(-1) - total.unsqueeze(-2)).tril().exp().tril()
    from_start = total.exp().unsqueeze(-1)
    identity = torch.eye(chunk, device=q.device)
    system = identity + ((k @ k.mT) * decay * beta).tril(-1)
    inverse = torch.linalg.solve_triangular(
        system, identity.expand_as(system), upper=False, unitriangular=True
    )
    writes = inverse @ (beta * v)
    reads = inverse @ (beta * from_start * k)
    to_end = k * (total[..., -1:] - total).exp().unsqueeze(-1)
    kept = torch.eye(K, device=q.device) * total[..., -1, None, None].exp()
    states = Scan.apply(kept - to_end.mT @ reads, to_end.mT @ writes)
    before = torch.cat([torch.zeros_like(states[:, :, :1]), states[:, :, :-1]], 2)
    o = from_start * (q @ before) + ((q @ k.mT) * decay) @ (writes - reads @ before)
    o = o.permute(0, 2, 3, 1, 4).reshape(B, T, H, -1)
    return o.to(dtype), states.transpose(1, 2)


class Scan(torch.autograd.Function):
    """S[c + 1] = A[c] S[c] + U[c] from S[0] = 0; A [B, H, N, K, K], U [B, H, N, K, V] -> S[1:]."""

    @staticmethod
    def forward(ctx: Any, A: Tensor, U: Tensor) -> Tensor:
        states = torch.empty_like(U)
        state = torch.zeros_like(U[:, :, 0])
        for c in range(A.shape[2]):
            state = A[:, :, c] @ state + U[:, :, c]
            states[:, :, c] = state
        ctx.save_for_backward(A, states)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (out,) = gradients
        A, states = ctx.saved_tensors
        dU = torch.empty_like(out)
        carried = torch.zeros_like(out[:, :, 0])
        for c in reversed(range(A.shape[2])):
            carried = out[:, :, c] + carried
            dU[:, :, c] = carried
            carried = A[:, :, c].mT @ carried
        before = torch.cat([torch.zeros_like(states[:, :, :1]), states[:, :, :-1]], 2)
        return dU @ before.mT, dU
