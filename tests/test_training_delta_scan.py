"""The delta rule for training is the delta rule, and its gradients are right."""

import pytest
import torch

from kernels.gated_delta_rule.naive import naive_gated_delta_rule
from tests.closeness import assert_close
from training.delta_scan import delta_branch, delta_scan, scan, unit_lower_inverse

B, H, K, V = 2, 2, 4, 6


def tokens(rows: int, length: int) -> list[torch.Tensor]:
    """q, k, v, g, beta of `rows` x `length` tokens."""
    q, k = torch.randn(2, rows, length, H, K).unbind(0)
    g, beta = -torch.rand(rows, length, H), torch.rand(rows, length, H)
    return [q, k, torch.randn(rows, length, H, V), g, beta]


@pytest.mark.parametrize("chunk", [5, 48])
def test_the_scan_equals_the_recurrence_from_any_state(chunk: int) -> None:
    """Outputs everywhere, and the state after every chunk."""
    inputs, start = tokens(B, 3 * chunk), torch.randn(B, H, K, V)
    o, states = delta_scan(*inputs, chunk, start)
    for n in range(1, 4):
        part = [x[:, : n * chunk] for x in inputs]
        expected, state = naive_gated_delta_rule(*part, start)
        assert_close("state", state, states[n - 1], 1e-5)
    assert_close("o", expected, o, 1e-5)


def test_questions_that_share_a_state_read_it_as_each_would_alone() -> None:
    inputs, states = tokens(B * 3, 7), torch.randn(B, H, K, V)
    expected, _ = naive_gated_delta_rule(*inputs, states.repeat_interleave(3, 0))
    assert_close("o", expected, delta_branch(*inputs, states), 1e-5)


def test_hand_written_gradients_are_right() -> None:
    """Against finite differences, in fp64; with respect to the first state, too."""
    double = {"dtype": torch.float64, "requires_grad": True}
    A, U = torch.randn(4, 2, 3, 3, **double), torch.randn(4, 2, 3, 2, **double)
    assert torch.autograd.gradcheck(scan, (A, U, torch.randn(2, 3, 2, **double)))
    L = torch.rand(2, 20, 20, **double)
    assert torch.autograd.gradcheck(lambda L: unit_lower_inverse(L.tril(-1)), (L,))


@pytest.mark.parametrize("size", [1, 16, 40, 64, 128])
def test_a_triangle_times_its_inverse_is_the_identity_where_all_keys_are_alike(size: int) -> None:
    L = torch.ones(3, size, size).tril(-1) * 0.99
    product = (torch.eye(size) + L) @ unit_lower_inverse(L)
    assert (product - torch.eye(size)).abs().max() < 1e-5
