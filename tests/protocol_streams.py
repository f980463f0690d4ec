"""Streams for tests of the protocol: always live, and never surprising."""

from collections.abc import Sequence

from sources.status import SourceCondition
from stream.events import AnswerDone, AnswerStatus, SourceState
from stream.monitor import Monitor, MonitorReport
from stream.protocol import StreamInfo


class FixedStreams:
    """Streams of these names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def names(self) -> Sequence[str]:
        return self._names

    def has(self, name: str) -> bool:
        return name in self._names

    def info(self, name: str) -> StreamInfo:
        return StreamInfo(name=name, live=True, state=SourceCondition.LIVE, width=224, height=224)

    def state(self, name: str) -> SourceState | None:
        return SourceState(name, SourceCondition.LIVE, "224x224", 0.0)

    @property
    def state_bytes(self) -> int:
        return 1000

    @property
    def memory_bytes(self) -> int:
        return 1_000_000

    def report(self, name: str) -> MonitorReport:
        return Monitor(25.0).report()


def answer_done(
    stream: str, question_id: int, asker: str, status: AnswerStatus, text: str
) -> AnswerDone:
    """An answer that saw 10 frames and took a second."""
    return AnswerDone(
        stream, question_id, asker, "Who?", status, "", text, 10, 9, 0.36, 0.01, 0.02, 0.1, 1.0,
        len(text),
    )  # fmt: skip
