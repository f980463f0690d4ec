"""Replayed graphs do what the verbs do, for ever.

Without a GPU, a graph is replaced by the calls that it would have recorded: what is put into the
static inputs, padded and cut off is the same.
"""

import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoint import load_model
from model.infinitevl import InfiniteVL
from model.state import StatePool
from sources.frame import Image, VideoFrame
from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from stream.commands import Stream
from stream.frames import Frames
from stream.graphs import GraphedSteps, fitting, up_to
from stream.steps import Riders, Steps, Watched
from tests.closeness import relative_error
from tests.stream_helpers import HandEngine

GRID = (6, 10)
GRAPHED, EAGER = 1, 2


class NoStream:
    """A stream or an event where everything is done at once."""

    def __init__(self, **options: bool) -> None:
        pass

    def wait_stream(self, other: "NoStream") -> None:
        pass

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, other: "NoStream") -> float:
        return 1.0


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GPU, or a CPU that stands in for one."""
    torch.set_grad_enabled(False)
    name = str(request.param)
    if name == "cpu":
        for taken in ("Stream", "Event", "current_stream"):
            monkeypatch.setattr(torch.cuda, taken, NoStream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
        monkeypatch.setattr(GraphedSteps, "_capture", lambda steps, run: run)
    return name


def tiny(
    device: str, dtype: torch.dtype = torch.float32
) -> tuple[InfiniteVL, StatePool, Steps, GraphedSteps]:
    """A small model, a pool, and both kinds of steps on it."""
    vlm = load_model("random:tiny", device, dtype).vlm
    pool = vlm.new_pool(40, max_append=60)
    graphed = GraphedSteps(vlm, pool, time.monotonic, 8, 32)
    graphed.warm_up(GRID)
    return vlm, pool, Steps(vlm, pool, time.monotonic), graphed


def pictures(count: int) -> list[Image]:
    return [*np.random.default_rng(0).integers(0, 256, (count, 168, 280, 3), dtype=np.uint8)]


def watch(steps: Steps, images: list[Image], time_s: float, slots: list[int]) -> None:
    staged = [steps.stage(image, GRID).picture for image in images]
    steps.watch(staged, [time_s] * len(slots), slots, GRID)


def slot_state(pool: StatePool, slot: int) -> list[Tensor]:
    return [tensor[slot].clone() for tensor in pool.tensors()]


def test_replays_equal_the_verbs_after_a_hundred_windows(device: str) -> None:
    """Bit by bit at the first frame, over the first wrap, and when the ring has long been round."""
    on_gpu = device == "cuda"
    vlm, pool, eager, graphed = tiny(device, torch.bfloat16 if on_gpu else torch.float32)
    for slot in (GRAPHED, EAGER):
        vlm.start_stream(slot, pool)
    windows = 100 if on_gpu else 3
    frames = windows * vlm.config.sliding_window // (GRID[0] * GRID[1])
    for i, picture in enumerate(pictures(16) * -(-frames // 16)):
        watch(graphed, [picture], i / 25, [GRAPHED])
        watch(eager, [picture], i / 25, [EAGER])
        if i in (0, 9, 20) or i % 200 == 0:
            for a, b in zip(slot_state(pool, GRAPHED), slot_state(pool, EAGER), strict=True):
                assert torch.equal(a, b), i
    assert int(pool.num_tokens[GRAPHED]) > windows * vlm.config.sliding_window


def test_streams_that_share_a_replay_remember_what_they_would_alone(device: str) -> None:
    """Four in one step, with tokens riding along. In fp32: in bf16 both round, each its own way."""
    vlm, pool, _, graphed = tiny(device)
    shown = [pictures(20)[n:] + pictures(20)[:n] for n in range(4)]
    for slot in (*range(1, 9), 20):
        vlm.start_stream(slot, pool)
    for i in range(20):
        four = [graphed.stage(video[i], GRID).picture for video in shown]
        riders = Riders([5], [20]) if i > 10 else None
        graphed.watch(four, [i / 25] * 4, [1, 2, 3, 4], GRID, riders)
        for n, video in enumerate(shown):
            watch(graphed, [video[i]], i / 25, [5 + n])
    for n in range(4):
        for a, b in zip(slot_state(pool, 1 + n), slot_state(pool, 5 + n), strict=True):
            assert relative_error(a, b) < 1e-4


def test_an_answer_leaves_its_stream_bitwise_unchanged(device: str) -> None:
    """Questions of every graph's length, read and answered on forks."""
    vlm, pool, _, graphed = tiny(device)
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


def test_a_question_read_by_a_graph_is_the_one_the_verbs_read(device: str) -> None:
    """Padding to a graph's length changes nothing."""
    vlm, pool, eager, graphed = tiny(device)
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


def test_questions_read_together_are_read_as_alone(device: str) -> None:
    """More of them than one graph takes, of different lengths; and one long one among them."""
    vlm, pool, eager, graphed = tiny(device)
    vlm.start_stream(1, pool)
    for i, picture in enumerate(pictures(12)):
        watch(graphed, [picture], i / 25, [1])
    for lengths in ((3, 9, 1, 20, 6), (4, 60)):
        rows = [[1 + (n * 7 + i) % 250 for i in range(length)] for n, length in enumerate(lengths)]
        together = list(range(9, 9 + len(rows)))
        for slot in (*together, 30):
            pool.copy(1, slot)
        got = graphed.read(rows, together)
        for n, row in enumerate(rows):
            pool.copy(1, 30)
            assert relative_error(eager.read([row], [30]), got[n : n + 1]) < 1e-4
            pairs = zip(slot_state(pool, 30), slot_state(pool, together[n]), strict=True)
            assert all(relative_error(a, b) < 1e-4 for a, b in pairs if a.numel())


def test_tokens_beside_frames_and_alone_are_the_same(device: str) -> None:
    """Riders' logits are those of decoding, for as many as there are, in their order."""
    vlm, pool, _, graphed = tiny(device)
    for slot in (1, 2):
        vlm.start_stream(slot, pool)
    for i, picture in enumerate(pictures(5)):
        watch(graphed, [picture, picture], i / 25, [1, 2])
    for slot in (9, 10, 11, 19, 20, 21):
        pool.copy(1, slot)
    staged = [graphed.stage(picture, GRID).picture for picture in pictures(2)]
    riders = Riders([3, 4, 5], [9, 10, 11])
    logits = graphed.watch(staged, [1.0, 1.0], [1, 2], GRID, riders).logits
    assert logits is not None
    assert relative_error(graphed.decode([3, 4, 5], [19, 20, 21]), logits) < 1e-4


def test_more_answers_than_can_ride_all_get_their_token(device: str) -> None:
    """An engine whose steps take two riders gives each of four answers one token a frame."""
    hand = HandEngine("a", max_answers=4)
    steps = hand.engine._steps
    eager_watch, rode = steps.watch, []

    def watch_with_riders(*args: Any) -> Watched:
        *frames, riders = args
        stages_s = eager_watch(*frames).stages_s
        rode.append(0 if riders is None else len(riders.ids))
        return Watched(stages_s, riders and steps.decode(riders.ids, riders.slots))

    steps.most_riders, steps.watch = 2, watch_with_riders  # type: ignore[method-assign]
    hand.see(count=2)
    numbers = [hand.ask(asker=str(n), max_tokens=40) for n in range(4)]
    for _ in range(200):
        hand.frame()
        hand.engine.step()
    assert max(rode) == 2
    assert all(hand.events["a"].ends()[n].num_tokens > 0 for n in numbers)


def test_a_stream_begun_by_a_graph_is_one_begun_by_the_verb(device: str) -> None:
    vlm, pool, _, graphed = tiny(device)
    pool.copy(1, 2)
    graphed.start(2)
    vlm.start_stream(1, pool)
    pairs = zip(slot_state(pool, 1), slot_state(pool, 2), strict=True)
    assert all(relative_error(a, b) < 1e-4 for a, b in pairs if a.numel())


def test_steps_are_timed_and_leave_their_slots_as_new(device: str) -> None:
    _, pool, _, graphed = tiny(device)
    assert list(graphed.frames_s) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(seconds > 0 for seconds in graphed.frames_s.values())
    assert int(pool.num_tokens.sum()) == 0


def test_a_picture_of_another_shape_goes_verb_by_verb(device: str) -> None:
    """And riders with it, after it."""
    vlm, pool, eager, graphed = tiny(device)
    for slot in (1, 2, 9, 10):
        vlm.start_stream(slot, pool)
    wide = np.random.default_rng(1).integers(0, 256, (56, 280, 3), dtype=np.uint8)
    grid = (2, 10)
    expected = eager.watch([eager.stage(wide, grid).picture], [0.0], [2], grid)
    picture = graphed.stage(wide, grid).picture
    logits = graphed.watch([picture], [0.0], [1], grid, Riders([3], [9])).logits
    assert expected.logits is None and logits is not None
    assert relative_error(eager.decode([3], [10]), logits) < 1e-4
    for a, b in zip(slot_state(pool, 1), slot_state(pool, 2), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(168, 280), (56, 280)], ids=["more than a graph takes", "mixed"])
def test_riders_logits_outlive_the_replays_after_them(
    device: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs share their memory: what one has given may be written over by the next.

    Where a CPU stands in for a GPU it always is.
    """
    given: list[Tensor] = []

    def capture(steps: GraphedSteps, run: Any) -> Any:
        def replay() -> Tensor:
            for tensor in given:
                tensor.fill_(torch.nan)
            given[:] = [run()] if run.func.__name__ in ("_remember", "_next") else []
            return given[0] if given else run()

        return replay if hasattr(run, "func") else run

    if device == "cpu":
        monkeypatch.setattr(GraphedSteps, "_capture", capture)
    vlm, pool, _, graphed = tiny(device)
    for slot in (*range(1, 11), 20, 30):
        vlm.start_stream(slot, pool)
    expected = graphed.decode([5], [20]).clone()
    clock = time.monotonic
    frames = Frames(graphed, 60, None, clock)
    monkeypatch.setattr(frames, "grid_of", lambda h, w: GRID if (h, w) == (168, 280) else (2, 10))
    shapes = [shape] + [(168, 280)] * 8
    due = []
    for slot, (height, width) in enumerate(shapes, 1):
        image = np.zeros((height, width, 3), np.uint8)
        frame = VideoFrame(image, 0, 0.0, 0.0, 0.0)
        buffer = FrameBuffer(1, FullPolicy.WAIT, lambda _: None, lambda: None)
        stream = Stream(f"s{slot}", slot, buffer, lambda _: None)
        due.append((stream, ScheduledFrame(frame, 0, None, frames.stage(image))))
    failed, logits = frames.serve(due, Riders([5], [30]))
    assert not failed and logits is not None
    assert relative_error(expected, logits) < 1e-4


@pytest.mark.gpu
def test_memory_does_not_grow() -> None:
    """Not one byte is allocated between the first frames and the last."""
    torch.set_grad_enabled(False)
    vlm, pool, _, graphed = tiny("cuda", torch.bfloat16)
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
