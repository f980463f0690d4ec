"""Everything that happens on a stream, as frozen records: one writer, many readers.

Times ending in `_s` are seconds: `pts_s` on the stream's own clock (0 at its first frame), all
others durations or readings of the process's monotonic clock.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from sources.status import SourceCondition

# What a stream may be called, in events and everywhere else: never an address.
STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class DropReason(StrEnum):
    """Why a frame that was read never reached the model."""

    PACED = "paced"  # the source is faster than the target rate
    OVERRUN = "overrun"  # the engine was not ready for it
    STALE = "stale"  # skipped undecoded, to catch up with the present
    CORRUPT = "corrupt"  # it could not be decoded
    RECONNECT = "reconnect"  # it was on its way when the connection was given up
    CLOSED = "closed"  # the stream was closed while the frame waited
    FAILED = "failed"  # the model could not take it


class AnswerStatus(StrEnum):
    """How an accepted question ended."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"  # cut by length or deadline
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FrameAdmitted:
    """A frame got its place in the schedule; `due_s` is None for a stream without one."""

    stream: str
    seq: int
    tick: int
    due_s: float | None


@dataclass(frozen=True, slots=True)
class FrameDone:
    """A frame is part of what the stream remembers.

    Attributes:
        arrived_s: when the source had it ready.
        done_s: when the state was committed.
        stages_s: seconds by stage: decode, wait, preprocess, vision, decoder.
    """

    stream: str
    seq: int
    tick: int
    pts_s: float
    due_s: float | None
    arrived_s: float
    done_s: float
    stages_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class FrameDropped:
    """A frame was read and will not be processed; `tick` is None if it never had a place.

    Of frames that the source itself lost only the `count` is known.
    """

    stream: str
    seq: int | None
    tick: int | None
    pts_s: float | None
    reason: DropReason
    count: int = 1


@dataclass(frozen=True, slots=True)
class QuestionAccepted:
    """A question is in the queue; exactly one AnswerDone will follow."""

    stream: str
    question_id: int
    asker: str
    question: str


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """More text of an answer; `index` counts the deltas of a question from 0."""

    stream: str
    question_id: int
    asker: str
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class AnswerDone:
    """An accepted question has ended.

    Attributes:
        reason: why, when the status alone does not tell.
        last_seq, last_pts_s: the newest frame that the answer saw; None if it saw none.
        num_frames: how many frames the stream had seen by then.
        frame_age_s: age of that newest frame when the stream was forked for the question.
        queue_s: from asking to forking. time_to_first_token_s, total_s: from asking.
        num_tokens: of the answer. num_prompt_tokens: of the question and what was said before.
    """

    stream: str
    question_id: int
    asker: str
    question: str
    status: AnswerStatus
    reason: str
    answer: str
    num_frames: int
    last_seq: int | None
    last_pts_s: float | None
    frame_age_s: float | None
    queue_s: float | None
    time_to_first_token_s: float | None
    total_s: float
    num_tokens: int
    num_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source changed what it is doing; `detail` says why in words.

    Attributes:
        lasted_s: how long it was doing what it did before; None at first.
        epoch: how often it has been lost and found again.
        gap_s: on becoming live again, the seconds without a picture.
        retry_s: on reconnecting, the seconds until the next try.
    """

    stream: str
    condition: SourceCondition
    detail: str
    at_s: float
    lasted_s: float | None = None
    epoch: int = 0
    gap_s: float | None = None
    retry_s: float | None = None

    @property
    def over(self) -> bool:
        """Whether no more frames will come."""
        return self.condition in (SourceCondition.ENDED, SourceCondition.FAILED)


Event = (
    FrameAdmitted
    | FrameDone
    | FrameDropped
    | QuestionAccepted
    | AnswerDelta
    | AnswerDone
    | SourceState
)
