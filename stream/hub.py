"""The sessions of all clients, and the streams they ask: everything of the server but its sockets.

All of it runs on one event loop. What happens on the streams is told on other threads, and comes
over by `call_soon_threadsafe`.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sources.status import SourceCondition
from stream.events import AnswerDelta, AnswerDone, Event, SourceState
from stream.monitor import MonitorReport
from stream.outbox import Outbox
from stream.protocol import (
    ErrorInfo,
    ErrorMessage,
    LimitsInfo,
    SessionCreated,
    StreamInfo,
)
from stream.protocol_effects import Ask, Cancel, Effect, Resume, Send
from stream.protocol_session import ProtocolSession, SessionLimits
from stream.question import QuestionRefusedError, SamplingParams
from stream.registry import StreamRegistry, UnknownStreamError

MAX_MESSAGE_BYTES = 1 << 16
# What is kept of clients that went away, at most.
_MOST_LOST = 256


@dataclass(frozen=True, slots=True)
class About:
    """What the server says of itself."""

    version: str
    model: str
    trained: bool


@dataclass(slots=True, eq=False)
class Connection:
    """A client that is there: its session, and what waits to be sent."""

    session: ProtocolSession
    outbox: Outbox


@dataclass(frozen=True, slots=True)
class _Lost:
    session: ProtocolSession
    until_s: float


class RegistryStreams:
    """The streams of a registry, as sessions see them."""

    def __init__(self, registry: StreamRegistry) -> None:
        self._registry = registry

    def names(self) -> Sequence[str]:
        return self._registry.names

    def info(self, name: str) -> StreamInfo:
        session, state = self._registry.get(name), self.state(name)
        info = session.info
        return StreamInfo(
            name=name,
            live=info.live,
            state=state.condition if state else SourceCondition.CONNECTING,
            width=info.width,
            height=info.height,
            target_fps=session.report().target_fps,
        )

    def state(self, name: str) -> SourceState | None:
        return self._registry.get(name).source_state

    def report(self, name: str) -> MonitorReport:
        return self._registry.get(name).report()


class Hub:
    """Joins clients with streams; all methods but `subscribe` run on its loop."""

    def __init__(
        self,
        registry: StreamRegistry,
        about: About,
        limits: SessionLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.streams = RegistryStreams(registry)
        self._registry, self._about, self._limits, self._clock = registry, about, limits, clock
        self._connections: set[Connection] = set()
        self._lost: dict[str, _Lost] = {}
        self.draining = False

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    @property
    def num_open(self) -> int:
        """Questions of clients, there or lost, that have not ended."""
        lost = (entry.session for entry in self._lost.values())
        return sum(s.num_open for s in (*(c.session for c in self._connections), *lost))

    def subscribe(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Listen to all streams from now on; returns what ends it."""

        def listener(event: Event) -> None:
            if isinstance(event, AnswerDelta | AnswerDone | SourceState) and not loop.is_closed():
                loop.call_soon_threadsafe(self.happened, event)

        return self._registry.subscribe(listener)

    def connect(self) -> Connection:
        """A client has come; it is told what it may do."""
        limits = self._limits
        session = ProtocolSession(
            secrets.token_hex(8), secrets.token_urlsafe(24), self.streams, limits, self._clock()
        )
        connection = Connection(session, Outbox())
        self._connections.add(connection)
        connection.outbox.push(
            SessionCreated(
                session=session.name,
                server_version=self._about.version,
                model=self._about.model,
                trained=self._about.trained,
                resume_token=session.token,
                limits=LimitsInfo(
                    open_queries=limits.open_queries,
                    queries_per_s=limits.queries_per_s,
                    query_burst=limits.query_burst,
                    message_bytes=MAX_MESSAGE_BYTES,
                    resume_s=limits.resume_s,
                ),
                streams=[self.streams.info(name) for name in self.streams.names()],
            )
        )
        return connection

    def receive(self, connection: Connection, data: str | bytes) -> None:
        """A client has sent a message."""
        try:
            effects = connection.session.receive(data, self._clock())
        except UnknownStreamError as error:  # closed just now
            info = ErrorInfo(code="not_found", message=str(error))
            effects = [Send(ErrorMessage(error=info))]
        self._do(connection, effects)

    def disconnect(self, connection: Connection) -> None:
        """A client is gone; for a while its session can be taken up again."""
        self._connections.discard(connection)
        session = connection.session
        self._lost[session.token] = _Lost(session, self._clock() + self._limits.resume_s)
        while len(self._lost) > _MOST_LOST:
            self._forget(next(iter(self._lost)))

    def happened(self, event: Event) -> None:
        """Tell the clients whom it concerns."""
        for connection in self._connections:
            self._do(connection, connection.session.happened(event))
        for lost in self._lost.values():
            lost.session.happened(event)

    def tick(self) -> None:
        """To be called some times a second: statistics that are due, sessions that are over."""
        now_s = self._clock()
        for connection in self._connections:
            self._do(connection, connection.session.stats(now_s))
        for token in [token for token, lost in self._lost.items() if lost.until_s <= now_s]:
            self._forget(token)

    def drain(self, time_left_s: float, reason: str) -> None:
        """Accept no more questions, and say that the server will end."""
        self.draining = True
        for connection in self._connections:
            self._do(connection, connection.session.drain(time_left_s, reason))

    def _forget(self, token: str) -> None:
        for effect in self._lost.pop(token).session.abandon():
            self._cancel(effect)

    def _do(self, connection: Connection, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    connection.outbox.push(message)
                case Ask():
                    self._do(connection, self._ask(connection.session, effect))
                case Cancel():
                    self._cancel(effect)
                case Resume(token, after):
                    lost = self._lost.pop(token, None)
                    session = lost.session if lost else None
                    self._do(connection, connection.session.adopt(session, after))

    def _ask(self, session: ProtocolSession, ask: Ask) -> list[Effect]:
        try:
            question_id = self._registry.get(ask.stream).ask(
                ask.text,
                asker=session.asker,
                deadline_s=ask.deadline_s,
                sampling=SamplingParams(max_tokens=ask.max_tokens),
            )
        except UnknownStreamError as error:
            return session.refused(ask.id, str(error), "not_found")
        except QuestionRefusedError as error:
            return session.refused(ask.id, str(error))
        return session.asked(ask.id, question_id)

    def _cancel(self, cancel: Effect) -> None:
        if isinstance(cancel, Cancel) and cancel.stream in self._registry.names:
            self._registry.get(cancel.stream).cancel(cancel.question_id)
