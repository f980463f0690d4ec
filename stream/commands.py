"""What other threads tell the engine: commands, obeyed between two steps in the order they came."""

from collections.abc import Callable
from dataclasses import dataclass

from stream.answers import StreamView
from stream.buffer import FrameBuffer, ScheduledFrame
from stream.events import DropReason, Event, FrameDropped
from stream.question import Question

Publish = Callable[[Event], None]


@dataclass(slots=True, eq=False)
class Stream:
    """A stream the engine watches; `closing` and `failure` are guarded by the engine's lock.

    Attributes:
        fps: how many frames a second it is to be watched at; None for no schedule.
        reset_on_gap: whether it forgets everything when its source was lost and found again.
        failure: why it cannot go on; it keeps its name and slot until it is closed.
        epoch: of the newest frame; origin_s: the stream's time at which its memory begins.
    """

    name: str
    slot: int
    buffer: FrameBuffer
    publish: Publish
    reset_on_gap: bool = False
    fps: float | None = None
    closing: bool = False
    failure: str | None = None
    view: StreamView | None = None
    epoch: int = 0
    origin_s: float = 0.0

    @property
    def open(self) -> bool:
        return not self.closing and self.failure is None

    @property
    def over(self) -> bool:
        """Whether no more frames will come: they cost no time, though it can still be asked."""
        return not self.open or self.buffer.ended

    def drop(self, scheduled: ScheduledFrame, reason: DropReason) -> None:
        """Say that a frame of this stream will not be processed."""
        frame = scheduled.frame
        self.publish(FrameDropped(self.name, frame.seq, scheduled.tick, frame.pts_s, reason))


@dataclass(frozen=True, slots=True)
class OpenStream:
    stream: Stream


@dataclass(frozen=True, slots=True)
class CloseStream:
    stream: Stream
    reason: str


@dataclass(frozen=True, slots=True)
class CancelQuestion:
    stream: str
    question_id: int


Command = OpenStream | CloseStream | Question | CancelQuestion
