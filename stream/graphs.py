"""Whole steps captured once as CUDA graphs and replayed for ever.

Slots, positions, ring places and lengths are tensors on the device, so a graph is right for every
frame of every stream: its window slides and nothing in it knows how old a stream is. There are
graphs of a few sizes; what is fewer is filled up with rows of the null slot. All of them read the
same static inputs and share their scratch memory, for they never run at once.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from model.infinitevl import InfiniteVL
from model.preprocess import resize
from model.state import NULL_SLOT, StatePool
from sources.frame import Image
from stream.buffer import Staged
from stream.steps import MOST_ROWS, Riders, Steps, Watched

FRAMES = (1, 2, 3, 4, 5, 6, 7, 8)
TOKENS = (1, 8, 32)
RIDERS = (8, 32)
TEXT = (16, 64)
# Of how many tokens questions are at most that are read together.
ROW = 64
Replay = Callable[[], Tensor]


class GraphedSteps(Steps):
    """Replays steps on one grid; what does not fit a graph goes verb by verb.

    Args:
        max_streams, max_answers: how many slots may be watched, and asked, in one step.
    """

    def __init__(
        self,
        vlm: InfiniteVL,
        pool: StatePool,
        clock: Callable[[], float],
        max_streams: int,
        max_answers: int,
    ) -> None:
        super().__init__(vlm, pool, clock)
        self._frame_sizes = up_to(FRAMES, max_streams)
        self._token_sizes = up_to(TOKENS, max_answers)
        self._rider_sizes = up_to(RIDERS, max_answers)
        self.most_riders = self._rider_sizes[-1]
        self._text_sizes = up_to((*TEXT, pool.max_append), pool.max_append)
        self._memory = torch.cuda.graph_pool_handle()
        self._grid: tuple[int, int] | None = None
        self._vision: dict[int, Replay] = {}
        self._decoder: dict[tuple[int, int], Replay] = {}
        self._tokens: dict[int, Replay] = {}
        self._text: dict[int, Replay] = {}
        self._rows: Replay | None = None

        def numbers(count: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(count, device=vlm.device, dtype=dtype)

        F, D = self._frame_sizes[-1], self._token_sizes[-1]
        # Slots and the bits of times, side by side: one copy brings both.
        self._frame_numbers = numbers(2 * F).view(2, F)
        self._frame_slots = self._frame_numbers[0]
        self._times_s = self._frame_numbers[1].view(torch.float64)
        self._numbers_sent = torch.zeros(2, F, dtype=torch.int64).pin_memory()
        self._ids, self._slots = numbers(D), numbers(D)
        self._text_ids = numbers(pool.max_append)
        self._text_slot, self._text_length = numbers(1), numbers(1) + 1
        self._row_ids = numbers(MOST_ROWS * min(ROW, pool.max_append)).view(MOST_ROWS, -1)
        self._row_slots, self._row_lengths = numbers(MOST_ROWS), numbers(MOST_ROWS) + 1
        self._pixels = self._image_tokens = numbers(0)
        # Pictures are uploaded and resized on a stream of their own, while a step runs: first, for
        # it is little and a step has many programs waiting.
        self._uploads = torch.cuda.Stream(priority=-1)

    def warm_up(self, grid: tuple[int, int], max_answers: int = 1, max_streams: int = 1) -> None:
        """Capture every step on this grid; nothing is compiled or captured afterwards.

        The first grid gets the graphs. Pictures of another shape go verb by verb.
        """
        self._once(grid)
        if self._grid is not None:
            return
        vlm, config = self._vlm, self._vlm.config
        rows, columns = grid
        cell, F = config.vision.cell_size, self._frame_sizes[-1]
        self._pixels = torch.zeros(
            F, 3, rows * cell, columns * cell, device=vlm.device, dtype=torch.uint8
        )
        self._image_tokens = torch.zeros(
            F, rows * columns, config.hidden_size, device=vlm.device, dtype=vlm.dtype
        )
        self._grid = grid
        for F in self._frame_sizes:
            self._vision[F] = self._capture(partial(self._see, F))
            for D in (0, *self._rider_sizes):
                self._decoder[F, D] = self._capture(partial(self._remember, F, D))
        for D in self._token_sizes:
            self._tokens[D] = self._capture(partial(self._next, D))
        for T in self._text_sizes:
            self._text[T] = self._capture(partial(self._read, T))
        self._rows = self._capture(self._read_rows)
        self._pool.reset(NULL_SLOT)
        self.frames_s = {F: self._seconds(F) for F in self._frame_sizes}

    def start(self, slot: int) -> None:
        """As `Steps.start`, in a millisecond: others are being watched meanwhile."""
        if not self._text:
            return super().start(slot)
        self._pool.reset(slot)
        self.read([[self._vlm.config.vision_start_token_id]], [slot])

    def stage(self, image: Image, grid: tuple[int, int]) -> Staged:
        """On the device and resized, [3, height, width] uint8, if there are graphs for its grid."""
        picture = torch.from_numpy(image)
        if grid != self._grid:
            return Staged(picture, {})
        with torch.inference_mode(), torch.cuda.stream(self._uploads):
            pixels = picture.pin_memory().to(self._vlm.device, non_blocking=True)
            staged = resize(pixels[None], *grid, self._vlm.config.vision)[0].to(torch.uint8)
            done = torch.cuda.Event(blocking=True)
            done.record()
        # Whoever brought the picture waits for it, not a step that could begin.
        done.synchronize()
        return Staged(staged, {})

    def watch(
        self,
        pictures: Sequence[Tensor],
        times_s: Sequence[float],
        slots: Sequence[int],
        grid: tuple[int, int],
        riders: Riders | None = None,
    ) -> Watched:
        """As `Steps.watch`; more pictures than the largest graph takes go in turns.

        Pictures of another shape than the graphs' have not been staged for them.
        """
        most = self._frame_sizes[-1]
        if pictures[0].shape != self._pixels.shape[1:]:
            stages_s = super().watch(pictures, times_s, slots, grid).stages_s
            # A copy: the next step of frames, of another shape, may use the same memory.
            logits = self.decode(riders.ids, riders.slots).clone() if riders else None
            return Watched(stages_s, logits)
        if len(slots) > most:
            first = self.watch(pictures[:most], times_s[:most], slots[:most], grid, riders)
            rest = self.watch(pictures[most:], times_s[most:], slots[most:], grid)
            total = {k: v + rest.stages_s[k] for k, v in first.stages_s.items()}
            return Watched(total, first.logits)
        F = fitting(self._frame_sizes, len(slots))
        count = len(riders.ids) if riders else 0
        D = fitting((0, *self._rider_sizes), count)
        events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
        events[0].record()
        # Few calls, for the device waits meanwhile.
        torch.stack(list(pictures), out=self._pixels[: len(pictures)])
        self._number_frames(times_s, slots)
        if riders:
            _fill(self._ids[:D], riders.ids, 0)
            _fill(self._slots[:D], riders.slots, NULL_SLOT)
        events[1].record()
        self._vision[F]()
        events[2].record()
        logits = self._decoder[F, D]()
        events[3].record()
        events[3].synchronize()
        names = ("preprocess", "vision", "decoder")
        stages_s = {
            name: start.elapsed_time(end) / 1e3
            for name, start, end in zip(names, events, events[1:], strict=False)
        }
        # A copy: graphs share their memory, and there may be more to watch before it is read.
        return Watched(stages_s, logits[:count].clone() if riders else None)

    def read(self, rows: Sequence[Sequence[int]], slots: Sequence[int]) -> Tensor:
        """As `Steps.read`: short rows a few together, long ones one after the other."""
        if not self._text or self._rows is None:
            return super().read(rows, slots)
        most = self._row_ids.shape[1]
        if len(rows) > 1 and max(map(len, rows)) <= most:
            parts = [
                self._read_some(rows[i : i + MOST_ROWS], slots[i : i + MOST_ROWS])
                for i in range(0, len(rows), MOST_ROWS)
            ]
        else:
            parts = [self._read_one(row, slot) for row, slot in zip(rows, slots, strict=True)]
        return torch.cat(parts)

    def _read_one(self, row: Sequence[int], slot: int) -> Tensor:
        T = fitting(self._text_sizes, len(row))
        _fill(self._text_ids[:T], row, 0)
        _fill(self._text_slot, [slot], NULL_SLOT)
        _fill(self._text_length, [len(row)], 1)
        return self._text[T]().clone()

    def _read_some(self, rows: Sequence[Sequence[int]], slots: Sequence[int]) -> Tensor:
        assert self._rows is not None
        most = self._row_ids.shape[1]
        padded = [[*row, *[0] * (most - len(row))] for row in rows]
        _fill(self._row_ids.view(-1), [i for row in padded for i in row], 0)
        _fill(self._row_slots, slots, NULL_SLOT)
        _fill(self._row_lengths, [len(row) for row in rows], 1)
        return self._rows()[: len(rows)].clone()

    def decode(self, ids: Sequence[int], slots: Sequence[int]) -> Tensor:
        """As `Steps.decode`."""
        if not self._tokens or len(ids) > self._token_sizes[-1]:
            return super().decode(ids, slots)
        D = fitting(self._token_sizes, len(ids))
        _fill(self._ids[:D], ids, 0)
        _fill(self._slots[:D], slots, NULL_SLOT)
        return self._tokens[D]()[: len(ids)]

    def _number_frames(self, times_s: Sequence[float], slots: Sequence[int]) -> None:
        """Put times and slots into the graphs' inputs; what is left is of the null slot.

        What was sent the last time has arrived: every step of frames is waited for.
        """
        sent_slots, sent_times_s = self._numbers_sent.numpy()
        sent_slots[:] = NULL_SLOT
        sent_slots[: len(slots)] = slots
        sent_times_s.view(np.float64)[: len(slots)] = times_s
        self._frame_numbers.copy_(self._numbers_sent, non_blocking=True)

    def _see(self, F: int) -> Tensor:
        image_tokens = self._vlm.encode_pixels(self._pixels[:F], self._grid_now())
        return self._image_tokens[:F].copy_(image_tokens)

    def _remember(self, F: int, D: int) -> Tensor:
        frames = (self._image_tokens[:F], self._times_s[:F], self._frame_slots[:F])
        if D == 0:
            return self._vlm.append_image_tokens(
                *frames, self._pool, self._grid_now(), wanted="none"
            )
        riders = (self._ids[:D], self._slots[:D])
        return self._vlm.watch_and_decode(*frames, *riders, self._pool, self._grid_now())

    def _seconds(self, F: int) -> float:
        """The median time of a step of so many streams; their slots are made new again."""
        slots, times_s = range(1, F + 1), []
        self._number_frames([0.0] * F, slots)
        for _ in range(5):
            start_s = self._clock()
            self._vision[F]()
            self._decoder[F, 0]()
            torch.cuda.synchronize()
            times_s.append(self._clock() - start_s)
        for slot in slots:
            self._pool.reset(slot)
        return sorted(times_s)[2]

    def _next(self, D: int) -> Tensor:
        return self._vlm.decode(self._ids[:D], self._slots[:D], self._pool)

    def _read(self, T: int) -> Tensor:
        ids = self._text_ids[None, :T]
        return self._vlm.append_text(ids, self._text_slot, self._pool, self._text_length)

    def _read_rows(self) -> Tensor:
        return self._vlm.append_text(self._row_ids, self._row_slots, self._pool, self._row_lengths)

    def _grid_now(self) -> tuple[int, int]:
        assert self._grid is not None
        return self._grid

    def _capture(self, run: Replay) -> Replay:
        """Run on the null slot until all is compiled and allocated, then capture."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def make_steps(
    vlm: InfiniteVL,
    pool: StatePool,
    clock: Callable[[], float],
    max_streams: int,
    max_answers: int,
) -> Steps:
    """Replayed graphs on CUDA; a growing context is the one thing that they cannot hold."""
    if vlm.device.type != "cuda" or vlm.config.has_full_attention:
        return Steps(vlm, pool, clock)
    return GraphedSteps(vlm, pool, clock, max_streams, max_answers)


def up_to(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """The sizes below `most`, and the first that holds it; the largest of all if none does."""
    ordered = sorted(set(sizes))
    return tuple(s for i, s in enumerate(ordered) if i == 0 or ordered[i - 1] < most)


def fitting(sizes: Sequence[int], count: int) -> int:
    """The smallest of ascending sizes that holds so many."""
    return next(size for size in sizes if size >= count)


def _fill(static: Tensor, values: Sequence[float], padding: float) -> None:
    """Put numbers into a graph's input, and padding after them."""
    padded = [*values, *[padding] * (len(static) - len(values))]
    static.copy_(torch.tensor(padded, dtype=static.dtype).pin_memory(), non_blocking=True)
