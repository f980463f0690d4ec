"""What a source says of itself between frames: what it is doing, and which frames were lost."""

from dataclasses import dataclass
from enum import StrEnum


class SourceCondition(StrEnum):
    """What a source is doing."""

    CONNECTING = "connecting"  # for the first time
    LIVE = "live"
    STALLED = "stalled"  # connected, but no picture comes
    RECONNECTING = "reconnecting"  # lost, and waiting to try again
    ENDED = "ended"
    FAILED = "failed"


class LossReason(StrEnum):
    """Why a frame that the source decoded, or should have, was never handed out."""

    OVERRUN = "overrun"  # newer frames came before it was taken
    STALE = "stale"  # skipped undecoded, to catch up with the present
    CORRUPT = "corrupt"  # it could not be decoded
    RECONNECT = "reconnect"  # it was on its way when the connection was given up


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A live source changed what it is doing.

    Attributes:
        detail: why, in words that are safe to print.
        epoch: how often it has been lost and found again.
        gap_s: on becoming live again, the seconds without a picture.
        retry_s: on reconnecting, the seconds until the next try.
    """

    condition: SourceCondition
    detail: str
    epoch: int = 0
    gap_s: float | None = None
    retry_s: float | None = None


@dataclass(frozen=True, slots=True)
class FramesLost:
    """Frames that will never be handed out."""

    count: int
    reason: LossReason
