"""The gated delta rule over many chunks at once, for training.

All work that does not cross chunks is batched (`chunk_terms`); only the state crosses, by one
product a chunk: S[c + 1] = A[c] S[c] + U[c]. The states at the chunks' ends are kept: they are
where questions branch off. `scan` and `unit_lower_inverse` are opaque to torch.compile and have
gradients written by hand, the same scan backward and two products.

C tokens of a chunk, K key dim, V value dim, N chunks.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.gated_delta_rule.naive import normalise_qk

_BLOCK = 8


class ChunkTerms(NamedTuple):
    """What a chunk does to a state S [..., K, V] before it, whatever S is.

    Its writes are `writes - reads @ S`, its outputs `from_start * (q @ S) + attention @ (its
    writes)`, the state after it `kept * S + to_end.mT @ (its writes)` (arXiv 2412.06464, 3.3).
    """

    q: Tensor  # [..., C, K], normalised and scaled
    from_start: Tensor  # [..., C, 1], the decay since the chunk began
    attention: Tensor  # [..., C, C]
    writes: Tensor  # [..., C, V]
    reads: Tensor  # [..., C, K]
    to_end: Tensor  # [..., C, K]
    kept: Tensor  # [..., 1, 1]


def chunk_terms(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> ChunkTerms:
    """From q, k [..., C, K], v [..., C, V], g and beta [..., C], all fp32."""
    q, k = normalise_qk(q, k)
    total = g.cumsum(-1)
    decay = (total.unsqueeze(-1) - total.unsqueeze(-2)).tril().exp().tril()
    from_start, beta = total.exp().unsqueeze(-1), beta.unsqueeze(-1)
    inverse = unit_lower_inverse(((k @ k.mT) * decay * beta).tril(-1))
    return ChunkTerms(
        q=q,
        from_start=from_start,
        attention=(q @ k.mT) * decay,
        writes=inverse @ (beta * v),
        reads=inverse @ (beta * from_start * k),
        to_end=k * (total[..., -1:] - total).exp().unsqueeze(-1),
        kept=from_start[..., -1:, :],
    )


def delta_scan(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, chunk: int, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The gated delta rule over N chunks.

    Args:
        q, k: [B, N * C, H, K], not normalised; v: [B, N * C, H, V]; g, beta: [B, N * C, H].
        chunk: C.
        state: [B, H, K, V] fp32, before the first token.

    Returns:
        o [B, N * C, H, V] fp32, and the states after each chunk [N, B, H, K, V] fp32.
    """
    B, T, H, K = q.shape
    # [N, B, H, C, ...]: the scan goes over the first dimension
    q, k, v, g, beta = (
        x.float().unflatten(1, (-1, chunk)).movedim(3, 1).movedim(2, 0) for x in (q, k, v, g, beta)
    )
    terms = chunk_terms(q, k, v, g, beta)
    identity = torch.eye(K, device=q.device)
    A = terms.kept * identity - terms.to_end.mT @ terms.reads
    U = terms.to_end.mT @ terms.writes
    states = scan(A.flatten(1, 2), U.flatten(1, 2), state.flatten(0, 1)).unflatten(1, (B, H))
    before = torch.cat([state[None], states[:-1]])
    writes = terms.writes - terms.reads @ before
    o = terms.from_start * (terms.q @ before) + terms.attention @ writes
    return o.permute(1, 0, 3, 2, 4).reshape(B, T, H, -1), states


def delta_branch(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, states: Tensor
) -> Tensor:
    """Questions of one chunk each, M of them off each of B states.

    Args:
        q, k: [B * M, C, H, K], v: [B * M, C, H, V], g, beta: [B * M, C, H].
        states: [B, H, K, V] fp32.

    Returns:
        o [B * M, C, H, V] fp32.
    """
    B = len(states)

    def rows(x: Tensor) -> Tensor:
        """[B * M, C, H, ...] -> [B, H, M, C, ...]"""
        return x.float().unflatten(0, (B, -1)).movedim(3, 1)

    terms = chunk_terms(rows(q), rows(k), rows(v), rows(g), rows(beta))
    # The questions of a state read it together: it is not copied for each.
    asked, known = (
        (x.flatten(2, 3) @ states).unflatten(2, x.shape[2:4]) for x in (terms.q, terms.reads)
    )
    o = terms.from_start * asked + terms.attention @ (terms.writes - known)
    return o.movedim(1, 3).flatten(0, 1)


@torch.library.custom_op("training::scan", mutates_args=())
def scan(A: Tensor, U: Tensor, state: Tensor) -> Tensor:
    """S[c + 1] = A[c] S[c] + U[c]: A [N, B, K, K], U [N, B, K, V], state [B, K, V] -> S[1:]."""
    states = torch.empty_like(U)
    for c in range(len(A)):
        state = torch.baddbmm(U[c], A[c], state, out=states[c])
    return states


@torch.library.custom_op("training::scan_backward", mutates_args=())
def scan_backward(A: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradients of S[1:], those of U, which are all of S[1:]'s, and of the first state."""
    dU = torch.empty_like(out)
    dU[-1] = out[-1]
    for c in reversed(range(1, len(A))):
        torch.baddbmm(out[c - 1], A[c].mT, dU[c], out=dU[c - 1])
    return dU, A[0].mT @ dU[0]


@scan.register_fake
def _(A: Tensor, U: Tensor, state: Tensor) -> Tensor:
    return torch.empty_like(U)


@scan_backward.register_fake
def _(A: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(out), torch.empty_like(out[0])


def _scan_setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    A, _, state = inputs
    ctx.save_for_backward(A, state, output)


def _scan_gradient(ctx: Any, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    A, state, states = ctx.saved_tensors
    dU, d_state = scan_backward(A, out.contiguous())
    before = torch.cat([state[None], states[:-1]])
    return dU @ before.mT, dU, d_state


scan.register_autograd(_scan_gradient, setup_context=_scan_setup)


@torch.library.custom_op("training::unit_lower_inverse", mutates_args=())
def unit_lower_inverse(strict: Tensor) -> Tensor:
    """(I + L)^-1 for L [..., C, C] zero on and above the diagonal.

    Blocks of 8 by doubling, (I - L)(I + L^2)(I + L^4), then merged two by two, in exact fp32:
    where keys are nearly equal, as on a plain wall, powers of L grow and cancel.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return _inverse(strict)
    finally:
        torch.set_float32_matmul_precision(precision)


def _inverse(L: Tensor) -> Tensor:
    C = L.shape[-1]
    if C <= _BLOCK:
        inverse = torch.eye(C, device=L.device, dtype=L.dtype) - L
        power = L
        for _ in range(2):
            power = power @ power
            inverse = inverse + inverse @ power
        return inverse
    half = _BLOCK
    while 2 * half < C:
        half *= 2
    if 2 * half == C:  # both halves in one batch
        upper, lower = _inverse(torch.stack([L[..., :half, :half], L[..., half:, half:]]))
    else:
        upper, lower = _inverse(L[..., :half, :half]), _inverse(L[..., half:, half:])
    inverse = torch.zeros_like(L)
    inverse[..., :half, :half], inverse[..., half:, half:] = upper, lower
    inverse[..., half:, :half] = -(lower @ L[..., half:, :half] @ upper)
    return inverse


@unit_lower_inverse.register_fake
def _(strict: Tensor) -> Tensor:
    return torch.empty_like(strict, memory_format=torch.contiguous_format)


def _inverse_setup(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _inverse_gradient(ctx: Any, out: Tensor) -> Tensor:
    (inverse,) = ctx.saved_tensors
    return -(inverse.mT @ out @ inverse.mT).tril(-1)


unit_lower_inverse.register_autograd(_inverse_gradient, setup_context=_inverse_setup)
