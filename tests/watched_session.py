"""A session on an engine that runs on a thread of its own, and what it tells."""

from typing import Any

from stream.engine import Engine
from stream.events import AnswerDone, QuestionAccepted
from stream.question import SamplingParams
from stream.session import StreamConfig, StreamSession
from tests.stream_helpers import PATIENCE_S, Events

SHORT = SamplingParams(max_tokens=4)
ENDLESS = SamplingParams(max_tokens=2048)


class Watch:
    """A session and what it tells, on an engine that runs."""

    def __init__(self, source: Any, engine: Engine, name: str = "stream") -> None:
        self.session = StreamSession(source, engine, StreamConfig(name=name, fps=None))
        self.events = Events()
        self.session.subscribe(self.events)

    def ask(self, text: str = "What?", **more: Any) -> int:
        more.setdefault("sampling", SHORT)
        return self.session.ask(text, **more)

    def finish(self) -> dict[int, AnswerDone]:
        """Wait to the end; how the questions ended. Every frame must be accounted for."""
        assert self.session.wait(PATIENCE_S)
        ends = self.events.ends()
        assert set(ends) == {e.question_id for e in self.events.of(QuestionAccepted)}
        assert self.session.open_questions == 0
        report = self.session.report()
        assert report.read == report.processed + sum(report.dropped.values())
        return ends
