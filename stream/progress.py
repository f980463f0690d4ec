"""How far a stream has come: what its source does, where its clock stands, what is under way."""

from stream.events import (
    AnswerDone,
    Event,
    FrameAdmitted,
    FrameDone,
    FrameDropped,
    QuestionAccepted,
    SourceCondition,
    SourceState,
)
from stream.question import AT_END


class Progress:
    """Follows the events of one stream. Not locked: its owner serialises what is called and read.

    Attributes:
        source_state: what the source said last; None before it has said anything.
        last_pts_s: the newest frame that is done, on the stream's own clock; None before the first.
        open_questions: those that were accepted and have not ended.
    """

    def __init__(self) -> None:
        self.source_state: SourceState | None = None
        self.last_pts_s: float | None = None
        self.open_questions = 0
        self._frames_under_way = 0

    def record(self, event: Event) -> None:
        """Follow an event; those that move nothing are ignored."""
        match event:
            case FrameAdmitted():
                self._frames_under_way += 1
            case FrameDropped(tick=int()):
                self._frames_under_way -= 1
            case FrameDone(pts_s=pts_s):
                self._frames_under_way -= 1
                self.last_pts_s = pts_s
            case QuestionAccepted():
                self.open_questions += 1
            case AnswerDone():
                self.open_questions -= 1
            case SourceState():
                self.source_state = event

    @property
    def failed(self) -> bool:
        state = self.source_state
        return state is not None and state.condition is SourceCondition.FAILED

    @property
    def frames_ended(self) -> bool:
        """Whether the source is over, and every frame of it was processed or dropped."""
        state = self.source_state
        return state is not None and state.over and not self._frames_under_way

    def reached(self, at_s: float) -> bool:
        """Whether the stream's own clock has come to this time, or, for AT_END, to its end."""
        if at_s == AT_END:
            return self.last_pts_s is not None and self.frames_ended
        return self.last_pts_s is not None and self.last_pts_s >= at_s
