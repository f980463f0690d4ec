"""The engine's part for frames: what is due becomes part of what its stream remembers.

Streams that are due together and show pictures of one shape share one step. Every frame ends as
done or dropped, whatever goes wrong.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from model.preprocess import fit_grid
from model.state import ContextFullError
from sources.frame import Image, VideoFrame
from stream.answers import StreamView
from stream.buffer import ScheduledFrame, Staged
from stream.commands import Stream
from stream.events import DropReason, FrameDone
from stream.steps import Riders, Steps

Due = tuple[Stream, ScheduledFrame]


class Frames:
    """Lets streams see frames. Used by the engine's thread alone, but for `stage`."""

    def __init__(
        self,
        steps: Steps,
        frame_tokens: int,
        grid: tuple[int, int] | None,
        clock: Callable[[], float],
    ) -> None:
        self._steps = steps
        self._frame_tokens = frame_tokens
        self._grid = grid
        self._clock = clock

    def serve(
        self, due: list[Due], riders: Riders | None = None
    ) -> tuple[list[tuple[Stream, str]], Tensor | None]:
        """Let each stream see its frame; `riders` go with the first of them.

        Returns:
            The streams that cannot go on, and why; and the riders' logits.
        """
        try:
            batches = deque(_same_shape([(stream, self._staged(one)) for stream, one in due]))
        except Exception:
            _fail(due)
            raise
        failed, logits = [], None
        while batches:
            batch = batches.popleft()
            try:
                given = self._serve_batch(batch, riders if logits is None else None)
                logits = given if logits is None else logits
            except ContextFullError as error:
                if len(batch) > 1:
                    # Nothing was changed: find out which of them is full.
                    batches.extendleft([one] for one in batch)
                    continue
                stream, scheduled = batch[0]
                stream.drop(scheduled, DropReason.FAILED)
                failed.append((stream, str(error)))
            except Exception:
                _fail(chain(batch, *batches))
                raise
        return failed, logits

    def _serve_batch(self, batch: list[Due], riders: Riders | None) -> Tensor | None:
        """Let streams see one frame each; all pictures have one shape. The riders' logits."""
        taken_s = self._clock()
        for stream, scheduled in batch:
            self._note_epoch(stream, scheduled.frame)
        staged = [scheduled.staged for _, scheduled in batch if scheduled.staged is not None]
        pictures = [one.picture for one in staged]
        times_s = [scheduled.frame.pts_s - stream.origin_s for stream, scheduled in batch]
        slots = [stream.slot for stream, _ in batch]
        grid = self.grid_of(*batch[0][1].frame.image.shape[:2])
        watched = self._steps.watch(pictures, times_s, slots, grid, riders)
        done_s = self._clock()
        for (stream, scheduled), (_, staged_s) in zip(batch, staged, strict=True):
            own = {"decode": scheduled.frame.decode_s, "wait": taken_s - scheduled.ready_s}
            _done(stream, scheduled, done_s, own | staged_s | watched.stages_s)
        return watched.logits

    def stage(self, image: Image) -> Staged:
        """Make a picture ready for a step; may be called from any thread."""
        return self._steps.stage(image, self.grid_of(*image.shape[:2]))

    def _staged(self, scheduled: ScheduledFrame) -> ScheduledFrame:
        if scheduled.staged is not None:
            return scheduled
        return replace(scheduled, staged=self.stage(scheduled.frame.image))

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of image tokens for a picture of this size."""
        return self._grid or fit_grid(height, width, self._frame_tokens)

    def _note_epoch(self, stream: Stream, frame: VideoFrame) -> None:
        """A source that was lost begins anew if the stream is to; its questions have their own."""
        if frame.epoch != stream.epoch and stream.reset_on_gap:
            self._steps.start(stream.slot)
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


def _fail(due: Iterable[Due]) -> None:
    for stream, scheduled in due:
        stream.drop(scheduled, DropReason.FAILED)


def _same_shape(due: list[Due]) -> list[list[Due]]:
    """Frames that can be stacked together."""
    groups: dict[torch.Size, list[Due]] = {}
    for stream, scheduled in due:
        assert scheduled.staged is not None
        groups.setdefault(scheduled.staged.picture.shape, []).append((stream, scheduled))
    return list(groups.values())
