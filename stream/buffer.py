"""The hand-over of frames from a source's thread to the engine's: bounded, with a stated policy.

A file waits for the engine (every frame counts); a live source overwrites its oldest frame (the
newest counts), and what is dropped is reported, never silent.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from torch import Tensor

from sources.frame import VideoFrame


class FullPolicy(StrEnum):
    """What `put` does when the buffer is full."""

    WAIT = "wait"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class Staged(NamedTuple):
    """A picture as `Steps.stage` made it ready for a step, and seconds by stage that it took."""

    picture: Tensor
    stages_s: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class ScheduledFrame:
    """A frame and its place in the schedule.

    Attributes:
        due_s: None for a stream without a schedule.
        staged: its picture, made ready on its source's thread; None if it is yet to be.
    """

    frame: VideoFrame
    tick: int
    due_s: float | None
    staged: Staged | None = None

    @property
    def ready_s(self) -> float:
        """When it could be taken: it came, and then it was made ready."""
        return self.frame.arrived_s + sum(self.staged.stages_s.values() if self.staged else ())


class FrameBuffer:
    """At most `capacity` frames, oldest first."""

    def __init__(
        self,
        capacity: int,
        policy: FullPolicy,
        on_drop: Callable[[ScheduledFrame], None],
        on_change: Callable[[], None],
    ) -> None:
        """Make an open, empty buffer.

        Args:
            on_drop: called in the putting thread with each frame that had no room.
            on_change: called after a frame came in or the buffer closed.
        """
        self._capacity = capacity
        self._policy = policy
        self._on_drop = on_drop
        self._on_change = on_change
        self._frames: deque[ScheduledFrame] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, scheduled: ScheduledFrame) -> bool:
        """Hand a frame over, waiting or dropping when full; False if the buffer is closed."""
        with self._changed:
            if self._policy is FullPolicy.WAIT:
                self._changed.wait_for(lambda: self._closed or len(self._frames) < self._capacity)
            if self._closed:
                return False
            self._frames.append(scheduled)
            over = len(self._frames) > self._capacity
            newest = self._policy is FullPolicy.DROP_NEWEST
            dropped = (self._frames.pop() if newest else self._frames.popleft()) if over else None
        if dropped is not None:
            self._on_drop(dropped)
        self._on_change()
        return True

    def take(self) -> ScheduledFrame | None:
        """The oldest frame, or None at once if there is none."""
        with self._changed:
            if not self._frames:
                return None
            self._changed.notify_all()
            return self._frames.popleft()

    def close(self) -> None:
        """No more frames will come; what is there can still be taken. Wakes a waiting `put`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._on_change()

    def __len__(self) -> int:
        with self._changed:
            return len(self._frames)

    @property
    def ended(self) -> bool:
        """Closed, and everything taken."""
        with self._changed:
            return self._closed and not self._frames
