"""The sessions of all clients, and the streams they ask: everything of the server but its sockets.

All of it runs on one event loop. What happens on the streams is told on other threads, and comes
over by `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from sources.status import SourceCondition
from stream.events import AnswerDelta, AnswerDone, Event, SourceState
from stream.monitor import MonitorReport
from stream.outbox import Outbox
from stream.protocol import LimitsInfo, SessionCreated, StreamInfo
from stream.protocol_effects import Ask, Cancel, Effect, Resume, Send
from stream.protocol_replies import refusal
from stream.protocol_session import ProtocolSession, SessionLimits
from stream.question import QuestionRefusedError, SamplingParams, TooManyQuestionsError
from stream.registry import StreamRegistry, UnknownStreamError

MAX_MESSAGE_BYTES = 1 << 16
# What is kept of clients that went away, at most.
_MOST_LOST = 256
# Sessions whose statistics are sent at one tick: those of all at once would hold up a frame.
_STATS_A_TICK = 8


@dataclass(frozen=True, slots=True)
class About:
    """What the server says of itself."""

    version: str
    model: str
    trained: bool


@dataclass(slots=True, eq=False)
class Connection:
    """A client that is there: its session, what waits to be sent, and what ends its socket."""

    session: ProtocolSession
    outbox: Outbox
    let_go: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Lost:
    session: ProtocolSession
    until_s: float


class RegistryStreams:
    """The streams of a registry, as sessions see them."""

    def __init__(self, registry: StreamRegistry) -> None:
        self._registry = registry
        self._process = psutil.Process()
        self._reports: dict[str, MonitorReport] = {}
        self._memory_bytes = 0

    def names(self) -> Sequence[str]:
        return self._registry.names

    def has(self, name: str) -> bool:
        try:
            self._registry.get(name)
        except UnknownStreamError:
            return False
        return True

    def info(self, name: str) -> StreamInfo:
        session, state = self._registry.get(name), self.state(name)
        info = session.info
        return StreamInfo(
            name=name,
            live=info.live,
            state=state.condition if state else SourceCondition.CONNECTING,
            width=info.width,
            height=info.height,
            target_fps=session.target_fps,
        )

    def state(self, name: str) -> SourceState | None:
        return self._registry.get(name).source_state

    @property
    def state_bytes(self) -> int:
        return self._registry.state_bytes

    @property
    def memory_bytes(self) -> int:
        """What the program holds, at this tick."""
        if not self._memory_bytes:
            self._memory_bytes = self._process.memory_info().rss
        return self._memory_bytes

    def report(self, name: str) -> MonitorReport:
        """The count of this tick, the same for all who ask: to count takes the stream's lock."""
        if name not in self._reports:
            self._reports[name] = self._registry.get(name).report()
        return self._reports[name]

    def tick(self) -> None:
        """Count anew from now on."""
        self._reports.clear()
        self._memory_bytes = 0


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
        self.registry, self._about, self._limits, self._clock = registry, about, limits, clock
        # In order: those whose statistics were sent last come last.
        self._connections: dict[Connection, None] = {}
        self._lost: dict[str, _Lost] = {}
        self._ending: tuple[float, str] | None = None
        self._server = secrets.token_hex(8)

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""
        return self._ending is not None

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    @property
    def num_open(self) -> int:
        """Questions of clients, there or lost, that have not ended."""
        return sum(session.num_open for session in self._sessions())

    def subscribe(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Listen to all streams from now on; returns what ends it."""

        def listener(event: Event) -> None:
            if isinstance(event, AnswerDelta | AnswerDone | SourceState):
                with contextlib.suppress(RuntimeError):  # the loop may have closed just now
                    loop.call_soon_threadsafe(self.happened, event)

        return self.registry.subscribe(listener)

    def connect(self, let_go: Callable[[], None] = lambda: None) -> Connection:
        """A client has come; it is told what it may do.

        Args:
            let_go: ends its socket; called if its session is taken up on another.
        """
        limits = self._limits
        session = ProtocolSession(
            secrets.token_hex(8), secrets.token_urlsafe(24), self.streams, limits, self._clock()
        )
        connection = Connection(session, Outbox(), let_go)
        connection.outbox.push(
            SessionCreated(
                session=session.name,
                server=self._server,
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
        self._connections[connection] = None
        if self._ending is not None:
            until_s, reason = self._ending
            self._do(connection, session.drain(max(0.0, until_s - self._clock()), reason))
        return connection

    def receive(self, connection: Connection, data: str | bytes) -> None:
        """A client has sent a message."""
        if connection not in self._connections:
            return  # its session was taken up on another
        try:
            effects = connection.session.receive(data, self._clock())
        except UnknownStreamError as error:  # closed just now
            effects = [Send(refusal("not_found", str(error)))]
        self._do(connection, effects)

    def disconnect(self, connection: Connection) -> None:
        """A client is gone; for a while its session can be taken up again."""
        if connection not in self._connections:
            return
        del self._connections[connection]
        session = connection.session
        self._lost[session.token] = _Lost(session, self._clock() + self._limits.resume_s)
        while len(self._lost) > _MOST_LOST:
            # Those that wait for nothing go first: many short visits cancel no question.
            idle = (token for token, lost in self._lost.items() if not lost.session.num_open)
            self._forget(next(idle, next(iter(self._lost))))

    def happened(self, event: Event) -> None:
        """Tell the clients whom it concerns."""
        for connection in self._connections:
            self._do(connection, connection.session.happened(event))
        for lost in self._lost.values():
            lost.session.happened(event)

    def tick(self) -> None:
        """To be called some times a second: statistics that are due, sessions that are over."""
        now_s = self._clock()
        self.streams.tick()
        self._send_stats(now_s)
        for token in [token for token, lost in self._lost.items() if lost.until_s <= now_s]:
            self._forget(token)

    def drain(self, time_left_s: float, reason: str) -> None:
        """Accept no more questions, and say that the server will end."""
        self._ending = self._clock() + time_left_s, reason
        for connection in self._connections:
            self._do(connection, connection.session.drain(time_left_s, reason))

    def cancel_all(self) -> None:
        """Cancel what is open, of all clients."""
        for session in self._sessions():
            for effect in session.abandon():
                self._cancel(effect)

    def _sessions(self) -> list[ProtocolSession]:
        """Of clients that are there, and lost."""
        lost = [entry.session for entry in self._lost.values()]
        return [connection.session for connection in self._connections] + lost

    def _send_stats(self, now_s: float) -> None:
        """Statistics to some of those for whom they are due; the others come first next time."""
        left = _STATS_A_TICK
        for connection in list(self._connections):
            with contextlib.suppress(UnknownStreamError):  # closed just now
                if effects := connection.session.stats(now_s):
                    self._do(connection, effects)
                    del self._connections[connection]
                    self._connections[connection] = None
                    left -= 1
            if not left:
                return

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
                    left = self._leave(token, connection)
                    self._do(connection, connection.session.adopt(left, after))

    def _leave(self, token: str, by: Connection) -> ProtocolSession | None:
        """The session of a token, taken from where it was.

        That may be a connection that seems to stand: a client that changed its network comes back
        long before the server can tell that its old socket is dead.
        """
        if (lost := self._lost.pop(token, None)) is not None:
            return lost.session
        same = (c for c in self._connections if c is not by and c.session.token == token)
        if (old := next(same, None)) is None:
            return None
        del self._connections[old]
        old.let_go()
        return old.session

    def _ask(self, session: ProtocolSession, ask: Ask) -> list[Effect]:
        try:
            question_id = self.registry.get(ask.stream).ask(
                ask.text,
                asker=session.asker,
                deadline_s=ask.deadline_s,
                sampling=SamplingParams(max_tokens=ask.max_tokens),
            )
        except TooManyQuestionsError as error:
            return session.refused(ask.id, str(error))
        except (UnknownStreamError, QuestionRefusedError) as error:  # it has ended
            return session.refused(ask.id, str(error), "not_found")
        return session.asked(ask.id, question_id)

    def _cancel(self, cancel: Effect) -> None:
        # Another thread may close the stream at any moment.
        with contextlib.suppress(UnknownStreamError):
            if isinstance(cancel, Cancel):
                self.registry.get(cancel.stream).cancel(cancel.question_id)
