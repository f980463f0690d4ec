"""The fast gated delta rules agree with the token-by-token specification."""

import pytest
import torch
from torch import Tensor

from kernels.gated_delta_rule.chunk import chunk_gated_delta_rule
from kernels.gated_delta_rule.naive import naive_gated_delta_rule
from tests.closeness import assert_close


def inputs(B: int, T: int, H: int, K: int, V: int, decay: float = 0.5) -> tuple[Tensor, ...]:
    """Random q, k, v, g, beta and a state that is not zero."""
    q, k, v = torch.randn(B, T, H, K), torch.randn(B, T, H, K), torch.randn(B, T, H, V)
    g = -decay * torch.rand(B, T, H)
    return q, k, v, g, torch.rand(B, T, H), torch.randn(B, H, K, V)


@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 100, 257])
@pytest.mark.parametrize(("H", "K", "V"), [(2, 16, 32), (3, 7, 5)])
def test_chunks_equal_the_recurrence(T: int, H: int, K: int, V: int) -> None:
    """Outputs and final state agree for lengths around and across chunks."""
    args = inputs(2, T, H, K, V)
    o, state = naive_gated_delta_rule(*args)
    fast_o, fast_state = chunk_gated_delta_rule(*args)
    assert_close("o", o, fast_o, 1e-5)
    assert_close("state", state, fast_state, 1e-5)


@pytest.mark.parametrize("decay", [0.0, 1e-5, 30.0])
def test_extreme_decays_neither_overflow_nor_drift(decay: float) -> None:
    """No decay at all and decay to nothing within a token both agree."""
    args = inputs(1, 130, 2, 8, 8, decay)
    o, state = naive_gated_delta_rule(*args)
    fast_o, fast_state = chunk_gated_delta_rule(*args)
    assert_close("o", o, fast_o, 1e-5)
    assert_close("state", state, fast_state, 1e-5)


def test_a_strong_forget_does_not_blur_what_follows() -> None:
    """One token that wipes the state, among weak decays: those after it still count."""
    args = inputs(1, 128, 2, 8, 8, 0.01)
    args[3][:, 40] = -1e5
    o, state = naive_gated_delta_rule(*args)
    fast_o, fast_state = chunk_gated_delta_rule(*args)
    assert_close("o", o, fast_o, 1e-5)
    assert_close("state", state, fast_state, 1e-5)


def test_equal_keys_are_solved_exactly() -> None:
    """Many writes to one key, the worst case of the triangular system, agree."""
    q, k, v, g, beta, state = inputs(1, 64, 2, 8, 8, 0.01)
    args = (q, k[:, :1].expand_as(k).contiguous(), v, g, torch.ones_like(beta), state)
    o, new_state = naive_gated_delta_rule(*args)
    fast_o, fast_state = chunk_gated_delta_rule(*args)
    assert_close("o", o, fast_o, 1e-4)
    assert_close("state", new_state, fast_state, 1e-4)


@pytest.mark.parametrize("T", [1, 70])
def test_padding_leaves_the_state_bitwise(T: int) -> None:
    """Tokens with no decay and no write change nothing."""
    q, k, v, g, beta, state = inputs(2, T, 2, 8, 8)
    for rule in (naive_gated_delta_rule, chunk_gated_delta_rule):
        _, new_state = rule(q, k, v, g * 0, beta * 0, state)
        assert torch.equal(new_state, state)


def test_the_given_state_is_not_written_to() -> None:
    """The caller's state tensor stays as it was."""
    args = inputs(1, 70, 2, 8, 8)
    before = args[-1].clone()
    for op in (naive_gated_delta_rule, chunk_gated_delta_rule):
        op(*args)
        assert torch.equal(args[-1], before)


def test_in_pieces_equals_at_once() -> None:
    """Carrying the state from call to call gives what one call gives."""
    q, k, v, g, beta, state = inputs(2, 150, 2, 8, 16)
    o, end = chunk_gated_delta_rule(q, k, v, g, beta, state)
    outputs = []
    for part in (slice(0, 1), slice(1, 64), slice(64, 150)):
        piece, state = chunk_gated_delta_rule(
            q[:, part], k[:, part], v[:, part], g[:, part], beta[:, part], state
        )
        outputs.append(piece)
    assert_close("o", o, torch.cat(outputs, 1), 1e-5)
    assert_close("state", end, state, 1e-5)


def test_gradients_equal_the_recurrences() -> None:
    """The chunked rule can be trained through."""
    args = [x.requires_grad_() for x in inputs(1, 70, 2, 4, 4)]
    grads = []
    for op in (naive_gated_delta_rule, chunk_gated_delta_rule):
        o, state = op(*args)
        grads.append(torch.autograd.grad(o.square().sum() + state.square().sum(), args))
    for name, naive, fast in zip("qkvgbs", *grads, strict=True):
        assert_close(name, naive, fast, 1e-4)
