"""The engine's part for frames: what is due becomes part of what its stream remembers.

Streams that are due together and show pictures of one shape share one step. Every frame ends as
done or dropped, whatever goes wrong.
"""

from collections import deque
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor

from model.infinitevl import InfiniteVL
from model.preprocess import fit_grid
from model.state import ContextFullError, StatePool
from sources.frame import VideoFrame
from stream.answers import StreamView
from stream.buffer import ScheduledFrame
from stream.commands import Stream
from stream.events import DropReason, FrameDone

Due = tuple[Stream, ScheduledFrame]


class Frames:
    """Lets streams see frames. Used by the engine's thread alone."""

    def __init__(
        self,
        vlm: InfiniteVL,
        pool: StatePool,
        frame_tokens: int,
        grid: tuple[int, int] | None,
        clock: Callable[[], float],
    ) -> None:
        self._vlm = vlm
        self._pool = pool
        self._frame_tokens = frame_tokens
        self._grid = grid
        self._clock = clock

    def serve(self, due: list[Due]) -> list[tuple[Stream, str]]:
        """Let each stream see its frame; returns the streams that cannot go on, and why."""
        batches = deque(_same_shape(due))
        failed = []
        while batches:
            batch = batches.popleft()
            try:
                self._serve_batch(batch)
            except ContextFullError as error:
                if len(batch) > 1:
                    # Nothing was changed: find out which of them is full.
                    batches.extendleft([one] for one in batch)
                    continue
                stream, scheduled = batch[0]
                stream.drop(scheduled, DropReason.FAILED)
                failed.append((stream, str(error)))
            except Exception:
                for stream, scheduled in chain(batch, *batches):
                    stream.drop(scheduled, DropReason.FAILED)
                raise
        return failed

    def append(
        self,
        pictures: Tensor,
        times_s: list[float],
        slots: list[int],
        mark: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """Append one picture to each slot.

        Args:
            pictures: [B, height, width, 3] uint8 RGB on the CPU.
            times_s, slots: of B streams.
            mark: called as each stage ends.
        """
        device = self._vlm.device
        height, width = pictures.shape[1:3]
        self._vlm.append_frames(
            pictures.to(device),
            torch.tensor(times_s, dtype=torch.float64, device=device),
            torch.tensor(slots, device=device),
            self._pool,
            self._grid or fit_grid(height, width, self._frame_tokens),
            mark,
        )

    def _serve_batch(self, batch: list[Due]) -> None:
        """Let streams see one frame each; all pictures have one shape."""
        taken_s = last_s = self._clock()
        stages_s: dict[str, float] = {}

        def mark(stage: str) -> None:
            nonlocal last_s
            if self._vlm.device.type == "cuda":
                torch.cuda.synchronize()
            now_s = self._clock()
            stages_s[stage], last_s = now_s - last_s, now_s

        for stream, scheduled in batch:
            self._note_epoch(stream, scheduled.frame)
        pictures = torch.stack([torch.from_numpy(s.frame.image) for _, s in batch])
        times_s = [scheduled.frame.pts_s - stream.origin_s for stream, scheduled in batch]
        self.append(pictures, times_s, [stream.slot for stream, _ in batch], mark)
        for stream, scheduled in batch:
            wait_s = taken_s - scheduled.frame.arrived_s
            own = {"decode": scheduled.frame.decode_s, "wait": wait_s}
            _done(stream, scheduled, last_s, own | stages_s)

    def _note_epoch(self, stream: Stream, frame: VideoFrame) -> None:
        """A source that was lost begins anew if the stream is to; its questions have their own."""
        if frame.epoch != stream.epoch and stream.reset_on_gap:
            self._vlm.start_stream(stream.slot, self._pool)
            stream.view, stream.origin_s = None, frame.pts_s
        stream.epoch = frame.epoch


def _done(
    stream: Stream, scheduled: ScheduledFrame, done_s: float, stages_s: dict[str, float]
) -> None:
    """Note what the stream has now seen, and say so."""
    frame = scheduled.frame
    stream.view = StreamView(
        slot=stream.slot,
        num_frames=1 if stream.view is None else stream.view.num_frames + 1,
        last_seq=frame.seq,
        last_pts_s=frame.pts_s,
        last_arrived_s=frame.arrived_s,
    )
    stream.publish(
        FrameDone(
            stream=stream.name,
            seq=frame.seq,
            tick=scheduled.tick,
            pts_s=frame.pts_s,
            due_s=scheduled.due_s,
            arrived_s=frame.arrived_s,
            done_s=done_s,
            stages_s=stages_s,
        )
    )


def _same_shape(due: list[Due]) -> list[list[Due]]:
    """Frames that can be stacked together."""
    groups: dict[tuple[int, ...], list[Due]] = {}
    for stream, scheduled in due:
        groups.setdefault(scheduled.frame.image.shape, []).append((stream, scheduled))
    return list(groups.values())
