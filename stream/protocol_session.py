"""One client's session of ivl.v1, without sockets, threads or clocks.

Whoever has the socket feeds it messages and events, and does what it returns, at once and in that
order. A session outlives its connection: answers that ended meanwhile are kept for the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from stream.events import AnswerDelta, AnswerDone, Event, SourceState
from stream.monitor import MonitorReport
from stream.protocol import (
    CLIENT_MESSAGES,
    AnswerDeltaMessage,
    ErrorCode,
    GoingAway,
    Ping,
    Pong,
    QueryAccepted,
    QueryCancel,
    QueryCreate,
    SessionUpdate,
    SessionUpdated,
    StreamInfo,
    StreamSubscribe,
    StreamUnsubscribe,
)
from stream.protocol_effects import Ask, Cancel, Effect, Resume, Send
from stream.protocol_memory import Memory, OpenQuery
from stream.protocol_replies import invalid, refusal, sentence, stats_of, stream_state
from stream.question import MAX_QUESTION_CHARS, QuestionRefusedError, check_question
from stream.token_bucket import TokenBucket


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may do at most."""

    open_queries: int = 4
    queries_per_s: float = 1.0
    query_burst: int = 5
    resume_s: float = 120.0


class Streams(Protocol):
    """The streams that can be asked about."""

    def names(self) -> Sequence[str]:
        """Of those that are listed; there may be others."""

    def has(self, name: str) -> bool: ...

    def info(self, name: str) -> StreamInfo: ...

    def state(self, name: str) -> SourceState | None: ...

    def report(self, name: str) -> MonitorReport: ...

    @property
    def state_bytes(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...


@dataclass(slots=True)
class _Subscription:
    state: bool
    stats_every_s: float | None
    stats_due_s: float


class ProtocolSession:
    """Turns messages and events into effects; `asker` is whose dialogue its questions continue."""

    def __init__(
        self, name: str, token: str, streams: Streams, limits: SessionLimits, now_s: float
    ) -> None:
        self.name, self.token = name, token
        self._streams, self._limits = streams, limits
        bucket = TokenBucket(limits.queries_per_s, limits.query_burst, now_s)
        self._memory = Memory(f"session {name}", bucket)
        self._subscriptions: dict[str, _Subscription] = {}
        self._draining = False

    @property
    def asker(self) -> str:
        return self._memory.asker

    @property
    def num_open(self) -> int:
        """Questions that have been accepted and have not ended."""
        return len(self._memory.open)

    def receive(self, data: str | bytes, now_s: float) -> list[Effect]:
        """Take one message of the client's."""
        if isinstance(data, bytes):
            return [Send(refusal("bad_request", "Messages are text frames of JSON."))]
        try:
            message = CLIENT_MESSAGES.validate_json(data)
        except ValidationError as error:
            return [Send(invalid(error))]
        match message:
            case QueryCreate():
                return self._create(message, now_s)
            case QueryCancel():
                return self._cancel(message.id)
            case StreamSubscribe():
                return self._subscribe(message, now_s)
            case StreamUnsubscribe():
                self._subscriptions.pop(message.stream, None)
                return []
            case SessionUpdate():
                return self._update(message)
            case Ping():
                return [Send(Pong(t=message.t))]

    def asked(self, id: str, question_id: int) -> list[Effect]:
        """An Ask was accepted."""
        query = self._memory.open[id]
        query.question_id = question_id
        return [Send(QueryAccepted(id=id, stream=query.stream, open_queries=self.num_open))]

    def refused(self, id: str, why: str, code: ErrorCode = "queue_full") -> list[Effect]:
        """An Ask was refused: too many questions of all clients are open, or as `code` says."""
        del self._memory.open[id]
        retry_after_s = 1.0 if code == "queue_full" else None
        return [Send(refusal(code, why, id=id, retry_after_s=retry_after_s))]

    def happened(self, event: Event) -> list[Effect]:
        """Something happened on a stream; what concerns others is passed over."""
        match event:
            case AnswerDelta() if event.asker == self.asker:
                return self._delta(event)
            case AnswerDone() if event.asker == self.asker:
                return self._done(event)
            case SourceState():
                subscription = self._subscriptions.get(event.stream)
                wanted = subscription is not None and subscription.state
                return [Send(stream_state(event))] if wanted else []
        return []

    def stats(self, now_s: float) -> list[Effect]:
        """The statistics that are due."""
        effects: list[Effect] = []
        for closed in [name for name in self._subscriptions if not self._streams.has(name)]:
            del self._subscriptions[closed]
        for name, subscription in self._subscriptions.items():
            every_s = subscription.stats_every_s
            if every_s is not None and now_s >= subscription.stats_due_s:
                # Not from now: what is late once would be late for ever.
                subscription.stats_due_s = max(subscription.stats_due_s + every_s, now_s)
                streams = self._streams
                sizes = streams.state_bytes, streams.memory_bytes
                effects.append(Send(stats_of(name, streams.report(name), *sizes)))
        return effects

    def drain(self, time_left_s: float, reason: str) -> list[Effect]:
        """No more questions are accepted: the server will end."""
        self._draining = True
        return [Send(GoingAway(time_left_ms=round(time_left_s * 1e3), reason=reason))]

    def abandon(self) -> list[Effect]:
        """Nobody will come back, or nothing goes on: cancel what is open."""
        return [
            Cancel(query.stream, query.question_id)
            for query in self._memory.open.values()
            if query.question_id is not None
        ]

    def adopt(self, lost: "ProtocolSession | None", after: int) -> list[Effect]:
        """Take up a lost session, and say again which answers ended with a number above `after`."""
        if lost is None:
            why = "There is no session to resume; ask anew."
            return [Send(refusal("not_found", why, "resume_token"))]
        # What was said on this connection is newer than what was on the lost one.
        newer = self._memory.default_stream
        # The token stays that of the memory: a client that never hears of this has no other.
        self._memory, self.token = lost._memory, lost.token
        self._memory.default_stream = newer or self._memory.default_stream
        missed = [Send(done) for done in self._memory.ends_after(after)]
        return [self._updated(resumed=True), *missed]

    def _create(self, message: QueryCreate, now_s: float) -> list[Effect]:
        memory, id = self._memory, message.id
        if id in memory.open or id in memory.ended:
            why = "This id was used before; choose another."
            return [Send(refusal("duplicate_id", why, "id", id=id))]
        if self._draining:
            return [Send(refusal("draining", "The server is about to end.", id=id))]
        stream = self._stream(message.stream)
        if stream is None:
            return [Send(refusal("not_found", self._no_such(message.stream), "stream", id=id))]
        try:
            text = check_question(message.text)
        except QuestionRefusedError as error:
            code: ErrorCode = "bad_request"
            if len(message.text.strip()) > MAX_QUESTION_CHARS:
                code = "too_large"
            return [Send(refusal(code, sentence(str(error)), "text", id=id))]
        if len(memory.open) >= self._limits.open_queries:
            why = f"{self._limits.open_queries} of your questions are open; wait for an answer."
            return [Send(refusal("queue_full", why, id=id, retry_after_s=1.0))]
        if wait_s := memory.bucket.wait_s(now_s):
            return [Send(refusal("rate_limited", "You ask too fast.", id=id, retry_after_s=wait_s))]
        memory.bucket.take()
        memory.open[id] = OpenQuery(stream)
        deadline_s = None if message.deadline_ms is None else message.deadline_ms / 1e3
        return [Ask(id, stream, text, message.max_tokens, deadline_s)]

    def _cancel(self, id: str) -> list[Effect]:
        query = self._memory.open.get(id)
        if query is not None and query.question_id is not None:
            return [Cancel(query.stream, query.question_id)]
        if id in self._memory.ended:
            return [Send(refusal("already_done", "This question has ended.", "id", id=id))]
        return [Send(refusal("not_found", "There is no question with this id.", "id", id=id))]

    def _subscribe(self, message: StreamSubscribe, now_s: float) -> list[Effect]:
        if not self._streams.has(message.stream):
            why, name = self._no_such(message.stream), message.stream
            return [Send(refusal("not_found", why, "stream", stream=name))]
        every_s = message.stats_interval_ms / 1e3 if "stats" in message.channels else None
        wants_state = "state" in message.channels
        self._subscriptions[message.stream] = _Subscription(wants_state, every_s, now_s)
        state = self._streams.state(message.stream)
        return [Send(stream_state(state))] if wants_state and state is not None else []

    def _update(self, message: SessionUpdate) -> list[Effect]:
        memory = self._memory
        if message.default_stream is not None:
            if not self._streams.has(message.default_stream):
                why = self._no_such(message.default_stream)
                return [Send(refusal("not_found", why, "default_stream"))]
            memory.default_stream = message.default_stream
        if message.resume_token is None:
            return [self._updated(resumed=False)]
        if memory.open or memory.ended:
            return [Send(refusal("bad_request", "Resume before you ask anything.", "resume_token"))]
        return [Resume(message.resume_token, message.after)]

    def _updated(self, *, resumed: bool) -> Send:
        return Send(
            SessionUpdated(
                session=self.name,
                resume_token=self.token,
                default_stream=self._memory.default_stream,
                resumed=resumed,
            )
        )

    def _stream(self, name: str | None) -> str | None:
        """The stream that is meant; None if there is none, or it is not said which."""
        names = self._streams.names()
        name = name or self._memory.default_stream
        if name is None and len(names) == 1:
            return names[0]
        return name if name is not None and self._streams.has(name) else None

    def _no_such(self, name: str | None) -> str:
        known = ", ".join(self._streams.names()) or "none"
        if name is None:
            return sentence(f"Say which stream: {known}.")
        return sentence(f"There is no stream {name}; there are: {known}.")

    def _delta(self, event: AnswerDelta) -> list[Effect]:
        id = self._memory.id_of(event)
        if id is None:
            return []
        query = self._memory.open[id]
        seq, query.num_chars = query.num_chars, query.num_chars + len(event.text)
        return [Send(AnswerDeltaMessage(id=id, seq=seq, delta=event.text))]

    def _done(self, event: AnswerDone) -> list[Effect]:
        id = self._memory.id_of(event)
        return [] if id is None else [Send(self._memory.end(id, event))]
