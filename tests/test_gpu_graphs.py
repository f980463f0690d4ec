"""On a CUDA device: replayed graphs do what the verbs do, for ever."""

import time

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoint import load_model
from model.infinitevl import InfiniteVL
from model.state import StatePool
from sources.frame import Image
from stream.graphs import GraphedSteps, fitting, up_to
from stream.steps import Riders, Steps
from tests.closeness import relative_error

GRID = (6, 10)
GRAPHED, EAGER = 1, 2


@pytest.fixture(autouse=True)
def _inference() -> None:
    torch.set_grad_enabled(False)


def tiny(dtype: torch.dtype = torch.bfloat16) -> tuple[InfiniteVL, StatePool, Steps, GraphedSteps]:
    """A small model on the GPU, a pool, and both kinds of steps on it."""
    vlm = load_model("random:tiny", "cuda", dtype).vlm
    pool = vlm.new_pool(40, max_append=60)
    graphed = GraphedSteps(vlm, pool, time.monotonic, 8, 32)
    graphed.warm_up(GRID)
    return vlm, pool, Steps(vlm, pool, time.monotonic), graphed


def pictures(count: int) -> list[Image]:
    return [*np.random.default_rng(0).integers(0, 256, (count, 168, 280, 3), dtype=np.uint8)]


def watch(steps: Steps, images: list[Image], time_s: float, slots: list[int]) -> None:
    staged = [steps.stage(image, GRID) for image in images]
    steps.watch(staged, [time_s] * len(slots), slots, GRID)


def slot_state(pool: StatePool, slot: int) -> list[Tensor]:
    return [tensor[slot].clone() for tensor in pool.tensors()]


@pytest.mark.gpu
def test_replays_equal_the_verbs_after_a_hundred_windows() -> None:
    """Bit by bit at the first frame, over the first wrap, and when the ring has long been round."""
    vlm, pool, eager, graphed = tiny()
    for slot in (GRAPHED, EAGER):
        vlm.start_stream(slot, pool)
    frames = 100 * vlm.config.sliding_window // (GRID[0] * GRID[1])
    for i, picture in enumerate(pictures(16) * -(-frames // 16)):
        watch(graphed, [picture], i / 25, [GRAPHED])
        watch(eager, [picture], i / 25, [EAGER])
        if i in (0, 9, 20) or i % 200 == 0:
            for a, b in zip(slot_state(pool, GRAPHED), slot_state(pool, EAGER), strict=True):
                assert torch.equal(a, b), i
    assert int(pool.num_tokens[GRAPHED]) > 100 * vlm.config.sliding_window


@pytest.mark.gpu
def test_streams_that_share_a_replay_remember_what_they_would_alone() -> None:
    """Four in one step, with tokens riding along. In fp32: in bf16 both round, each its own way."""
    vlm, pool, _, graphed = tiny(torch.float32)
    shown = [pictures(20)[n:] + pictures(20)[:n] for n in range(4)]
    for slot in (*range(1, 9), 20):
        vlm.start_stream(slot, pool)
    for i in range(20):
        four = [graphed.stage(video[i], GRID) for video in shown]
        riders = Riders([5], [20]) if i > 10 else None
        graphed.watch(four, [i / 25] * 4, [1, 2, 3, 4], GRID, riders)
        for n, video in enumerate(shown):
            watch(graphed, [video[i]], i / 25, [5 + n])
    for n in range(4):
        for a, b in zip(slot_state(pool, 1 + n), slot_state(pool, 5 + n), strict=True):
            assert relative_error(a, b) < 1e-4


@pytest.mark.gpu
def test_an_answer_leaves_its_stream_bitwise_unchanged() -> None:
    """Questions of every graph's length, read and answered on forks."""
    vlm, pool, _, graphed = tiny()
    vlm.start_stream(1, pool)
    for i, picture in enumerate(pictures(12)):
        watch(graphed, [picture], i / 25, [1])
    before = slot_state(pool, 1)
    for length in (1, 3, 17, 60):
        pool.copy(1, 9)
        logits = graphed.read([[7] * length], [9])
        assert logits.isfinite().all()
        graphed.decode([3], [9])
    assert all(map(torch.equal, before, slot_state(pool, 1)))


@pytest.mark.gpu
def test_a_question_read_by_a_graph_is_the_one_the_verbs_read() -> None:
    """Padding to a graph's length changes nothing."""
    vlm, pool, eager, graphed = tiny(torch.float32)
    vlm.start_stream(1, pool)
    for i, picture in enumerate(pictures(12)):
        watch(graphed, [picture], i / 25, [1])
    for length in (1, 3, 16, 17, 60):
        for slot in (9, 10):
            pool.copy(1, slot)
        row = [list(range(1, 1 + length))]
        expected, got = eager.read(row, [9]), graphed.read(row, [10])
        assert relative_error(expected, got) < 1e-4, length
        follow = eager.decode([4], [9]), graphed.decode([4], [10])
        assert relative_error(*follow) < 1e-4, length


@pytest.mark.gpu
def test_memory_does_not_grow() -> None:
    """Not one byte is allocated between the first frames and the last."""
    vlm, pool, _, graphed = tiny()
    vlm.start_stream(1, pool)
    shown = pictures(1)
    bytes_at = {}
    for i in range(300):
        watch(graphed, shown, i / 25, [1])
        torch.cuda.synchronize()
        bytes_at[i] = torch.cuda.memory_allocated()
    assert bytes_at[10] == bytes_at[299]


def test_sizes_of_graphs() -> None:
    """As many as are needed, and the smallest that fits."""
    assert up_to((1, 2, 4, 8), 3) == (1, 2, 4)
    assert up_to((1, 2, 4, 8), 1) == (1,)
    assert up_to((8, 32), 40) == (8, 32)
    assert fitting((1, 2, 4), 3) == 4
