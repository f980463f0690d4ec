"""Attention over a ring sees exactly the window, wherever in the ring its tokens lie."""

import pytest
import torch
from torch import Tensor

from kernels.window_attention.naive import (
    NO_WINDOW,
    naive_ring_attention,
    relative_tags,
    visible,
)
from kernels.window_attention.sdpa import ring_attention
from tests.closeness import assert_close


def seen_by(index: Tensor, tags: Tensor, window: int) -> Tensor:
    """Which entries queries of consecutive indices see, by the tags' places in the stream."""
    first = index[:, 0]
    return visible(index - first[:, None], relative_tags(tags, first, window), window)


def test_visible_is_the_window_and_nothing_else() -> None:
    """An entry is seen if it is filled, not later than the query, and inside the window."""
    tags = torch.tensor([[-1, 0, 3, 4, 5, 9]])
    seen = seen_by(torch.tensor([[5]]), tags, 3)
    assert seen.tolist() == [[[False, False, True, True, True, False]]]
    everything = seen_by(torch.tensor([[5]]), tags, NO_WINDOW)
    assert everything.tolist() == [[[False, True, True, True, True, False]]]


def test_a_stream_of_months_is_seen_as_one_of_minutes() -> None:
    """Indices beyond 32 bits: what a query sees does not depend on how old the stream is."""
    late = 2**40
    index, tags = torch.tensor([[9, 10]]), torch.tensor([[-1, 3, 8, 9, 10, 0]])
    young = seen_by(index, tags, 4)
    old = seen_by(index + late, torch.where(tags < 0, tags, tags + late), 4)
    assert torch.equal(young, old)
    assert old.tolist()[0][1] == [False, False, True, True, True, False]


@pytest.mark.parametrize(("H", "G", "D"), [(4, 2, 8), (3, 3, 5), (8, 1, 16)])
@pytest.mark.parametrize(("T", "C"), [(1, 7), (5, 33), (63, 100)])
def test_fast_attention_equals_the_specification(H: int, G: int, D: int, T: int, C: int) -> None:
    """Grouped heads, odd lengths and scattered tags agree."""
    q = torch.randn(2, T, H, D)
    keys, values = torch.randn(2, C, G, D), torch.randn(2, C, G, D)
    tags = torch.stack([torch.randperm(C) - 1 for _ in range(2)])
    index = torch.arange(C - T - 1, C - 1).expand(2, T)
    seen = seen_by(index, tags, max(C // 2, 1))
    expected = naive_ring_attention(q, keys, values, seen)
    assert_close("o", expected, ring_attention(q, keys, values, seen), 1e-5)


def test_a_ring_that_wrapped_equals_masked_attention_over_all_history() -> None:
    """After the ring has wrapped more than ten times, old keys are gone and none is missing."""
    window, T, G, D = 11, 3, 2, 4
    capacity, total = window - 1 + T, 13 * 11
    total += -total % T
    q, k, v = torch.randn(1, total, 4, D), torch.randn(1, total, G, D), torch.randn(1, total, G, D)
    keys, values = torch.zeros(1, capacity, G, D), torch.zeros(1, capacity, G, D)
    tags = torch.full((1, capacity), -1)
    outputs = []
    for start in range(0, total, T):
        index = torch.arange(start, start + T)
        keys[:, index % capacity], values[:, index % capacity] = k[:, index], v[:, index]
        tags[:, index % capacity] = index
        seen = seen_by(index[None], tags, window)
        outputs.append(ring_attention(q[:, index], keys, values, seen))
    every = torch.arange(total)[None]
    expected = naive_ring_attention(q, k, v, seen_by(every, every, window))
    assert total // capacity >= 10
    assert_close("o", expected, torch.cat(outputs, 1), 1e-5)
