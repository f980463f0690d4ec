"""The model's verbs as the engine calls them: numbers from the host in, logits out.

`Steps` calls the verbs one by one, anywhere; `stream.graphs.GraphedSteps` replays whole steps that
were captured once.

On a CPU two threads share the work of a frame: the vision tower remembers nothing, so a picture is
encoded by the thread that brought it while the engine's appends the one before.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.infinitevl import InfiniteVL
from model.state import StatePool
from sources.frame import Image
from stream.buffer import Staged

# Prompts that are read in one step, however short.
MOST_ROWS = 4


class Riders(NamedTuple):
    """Tokens that may share a step with frames: the ids and the slots they are appended to."""

    ids: list[int]
    slots: list[int]


class Watched(NamedTuple):
    """What a step of frames gives: seconds by stage, and the riders' logits if there were any."""

    stages_s: dict[str, float]
    logits: Tensor | None


class Steps:
    """One verb after the other.

    Attributes:
        most_riders: how many tokens can share a step with frames.
        frames_s: seconds of a step by how many streams it serves, ascending; empty until measured,
            and where it is not.
    """

    most_riders = 0

    def __init__(self, vlm: InfiniteVL, pool: StatePool, clock: Callable[[], float]) -> None:
        self._vlm = vlm
        self._pool = pool
        self._clock = clock
        self._encodes_early = vlm.device.type == "cpu"
        # One picture at a time, or the threads of many sources would fight for few cores.
        self._encoding = threading.Lock()
        self.frames_s: dict[int, float] = {}

    def warm_up(self, grid: tuple[int, int], max_answers: int = 1, max_streams: int = 1) -> None:
        """Before anything is due: all that will be asked of the device, in slots made new again.

        A CPU's library makes and keeps kernels for every shape, so each is made now.

        Args:
            max_answers: how many questions may be answered together.
            max_streams: how many streams may be due together.
        """
        for count in range(1, max_streams + 1):
            self._once(grid, count)
        last = self._pool.num_slots
        slots = list(range(last, max(0, last - max_answers), -1))
        for slot in slots:
            self.start(slot)
        for count in range(1, len(slots) + 1):
            for length in _lengths(self._pool.max_append) if count <= MOST_ROWS else ():
                self.read([[0] * length] * count, slots[:count])
            self.decode([0] * count, slots[:count])
        for slot in slots:
            self._pool.reset(slot)

    def _once(self, grid: tuple[int, int], num_pictures: int = 1) -> None:
        """Every verb once, in slots that are then made new again."""
        slot = self._pool.num_slots
        slots = list(range(slot, slot - num_pictures, -1))
        for one in slots:
            self.start(one)
        cell = self._vlm.config.vision.cell_size
        image = np.zeros((grid[0] * cell, grid[1] * cell, 3), dtype=np.uint8)
        pictures = [self.stage(image, grid).picture] * num_pictures
        self.watch(pictures, [0.0] * num_pictures, slots, grid)
        self.read([[0] * min(8, self._pool.max_append)], [slot])
        self.decode([0], [slot])
        for one in slots:
            self._pool.reset(one)

    def start(self, slot: int) -> None:
        """Make a slot a new stream."""
        self._vlm.start_stream(slot, self._pool)

    def stage(self, image: Image, grid: tuple[int, int]) -> Staged:
        """Make a picture ready for `watch`; may be called from any thread, while a step runs.

        Returns:
            Its image tokens [rows, columns, hidden] on a CPU, else its pixels as they are.
        """
        picture = torch.from_numpy(image)
        if not self._encodes_early:
            return Staged(picture, {})
        with self._encoding, torch.inference_mode():
            stages = _StageClock(self._clock, self._vlm.device)
            tokens = self._vlm.encode_frames(picture[None], grid, stages.mark)[0]
            return Staged(tokens.unflatten(0, grid), stages.seconds)

    def watch(
        self,
        pictures: Sequence[Tensor],
        times_s: Sequence[float],
        slots: Sequence[int],
        grid: tuple[int, int],
        riders: Riders | None = None,
    ) -> Watched:
        """Let each stream see one picture.

        Args:
            pictures: B of one shape, from `stage` for this grid, or pixels [height, width, 3].
            times_s: B numbers, seconds since each stream's first frame.
            slots: B numbers, all different.
            grid: rows and columns of image tokens.
            riders: no more than `most_riders`.
        """
        assert riders is None
        device = self._vlm.device
        stages = _StageClock(self._clock, device)
        batch = torch.stack(list(pictures)).to(device)
        if batch.dtype == torch.uint8:
            batch = self._vlm.encode_frames(batch, grid, stages.mark)
        else:
            batch = batch.flatten(1, 2)
        times = torch.tensor(times_s, dtype=torch.float64, device=device)
        numbers = torch.tensor(slots, device=device)
        self._vlm.append_image_tokens(batch, times, numbers, self._pool, grid, wanted="none")
        stages.mark("decoder")
        return Watched(stages.seconds, None)

    def read(self, rows: Sequence[Sequence[int]], slots: Sequence[int]) -> Tensor:
        """Append a row of ids, at least one, to each slot: logits [B, vocabulary] fp32.

        Raises:
            ContextFullError: nothing is changed.
        """
        device = self._vlm.device
        lengths = [len(row) for row in rows]
        # A few lengths, not all: kernels are kept for every one of them.
        longest = next(n for n in _lengths(self._pool.max_append) if n >= max(lengths))
        ids = torch.tensor([[*row] + [0] * (longest - len(row)) for row in rows])
        return self._vlm.append_text(
            ids.to(device),
            torch.tensor(slots, device=device),
            self._pool,
            torch.tensor(lengths).to(device),
        )

    def decode(self, ids: Sequence[int], slots: Sequence[int]) -> Tensor:
        """Append one token to each slot: logits [B, vocabulary] fp32. Raises as `read` does."""
        device = self._vlm.device
        rows = torch.tensor(ids)[:, None].to(device)
        return self._vlm.append_text(rows, torch.tensor(slots, device=device), self._pool, None)


class _StageClock:
    """Seconds from each mark to the next, by the stage that ended there."""

    def __init__(self, clock: Callable[[], float], device: torch.device) -> None:
        self._clock = clock
        self._device = device
        self._last_s = clock()
        self.seconds: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        now_s = self._clock()
        self.seconds[stage], self._last_s = now_s - self._last_s, now_s


def _lengths(most: int) -> list[int]:
    """To which rows of text are padded: powers of two, and the most that there may be."""
    return [1 << n for n in range(most.bit_length()) if 1 << n < most] + [most]
