"""Several named streams on one engine: opened, found, listened to and ended by name.

A stream is in the registry from `open` to `close`, also after its source has ended: it can still
be asked about, and keeps its slot of the engine. Sessions call listeners under a lock of their own,
so the registry holds its lock only while it calls no session that others know.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sources.frame import SourceInfo, VideoFrame, VideoSource
from stream.engine import Engine
from stream.events import STREAM_NAME, Event, SourceCondition, SourceState
from stream.monitor import MonitorReport
from stream.session import Listener, StreamConfig, StreamSession

_MOST_NAMED = 8  # in one sentence


class StreamRefusedError(ValueError):
    """A stream that was not opened; one sentence says why."""


class UnknownStreamError(LookupError):
    """No stream has this name; one sentence says which there are."""

    def __init__(self, name: str, names: list[str]) -> None:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        known = f"known: {', '.join(names[:_MOST_NAMED])}{more}" if names else "none is open"
        super().__init__(f"there is no stream {name[:64]!r}; {known}")


@dataclass(frozen=True, slots=True)
class StreamOverview:
    """A stream at one moment; `state` is None before it has started."""

    name: str
    info: SourceInfo
    state: SourceState | None
    report: MonitorReport
    open_questions: int


@dataclass(slots=True)
class _Entry:
    session: StreamSession
    listed: bool
    started: bool = False


class StreamRegistry:
    """Streams by name, in the order they were opened; all methods may be called by any thread."""

    def __init__(
        self, engine: Engine, capacity: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; there are no streams yet.

        Args:
            capacity: streams that the engine was made for, its `max_streams`.
        """
        self._engine = engine
        self._capacity = capacity
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()

    def open(
        self,
        name: str,
        source: VideoSource,
        config: StreamConfig | None = None,
        *,
        listed: bool = True,
    ) -> StreamSession:
        """Take up a stream, not yet started; `name` stands in for the name in `config`.

        One that is not `listed` is known to those alone who know its name.

        Raises:
            StreamRefusedError: the name is bad or taken, or the engine holds no more. The source
                is then still the caller's to close.
        """
        check_name(name)
        config = replace(config or StreamConfig(), name=name)
        with self._lock:
            if name in self._entries:
                raise StreamRefusedError(f"there is a stream named {name!r} already")
            if len(self._entries) >= self._capacity:
                most = f"{self._capacity} stream{'' if self._capacity == 1 else 's'}"
                raise StreamRefusedError(
                    f"{name!r} is one stream too many: the engine holds {most}, all taken"
                )
            session = StreamSession(source, self._engine, config, self._clock)
            session.subscribe(self._tell)
            self._entries[name] = _Entry(session, listed)
        return session

    def get(self, name: str) -> StreamSession:
        """The stream of this name; raises UnknownStreamError."""
        return self._entry(name).session

    @property
    def names(self) -> list[str]:
        """Of the streams that are listed."""
        with self._lock:
            return [name for name, entry in self._entries.items() if entry.listed]

    @property
    def state_bytes(self) -> int:
        """What one stream remembers, however long it has been watched."""
        return self._engine.pool.slot_bytes

    def rate_left(self, fps: float) -> float:
        """How many frames a second one more stream may have, at most `fps`."""
        sessions = [entry.session for _, entry in self._items()]
        states = [(session, session.source_state) for session in sessions]
        going_on = [session.report() for session, state in states if not (state and state.over)]
        return self._engine.rate_left(going_on, fps)

    @property
    def failed(self) -> list[str]:
        """Names of the streams that ended in failure."""
        states = {n: entry.session.source_state for n, entry in self._items() if entry.listed}
        return [n for n, s in states.items() if s and s.condition is SourceCondition.FAILED]

    def overview(self) -> list[StreamOverview]:
        """Every listed stream: what it is, what it is doing, and what was counted."""
        return [
            StreamOverview(
                name,
                entry.session.info,
                entry.session.source_state,
                entry.session.report(),
                entry.session.open_questions,
            )
            for name, entry in self._items()
            if entry.listed
        ]

    def snapshot(self, name: str) -> VideoFrame | None:
        """The newest frame of a stream, as its session has it; raises UnknownStreamError."""
        return self.get(name).snapshot()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the events of all streams, also later ones; returns what ends it.

        It runs on every stream's reader and on the engine's thread, several at a time, and must
        return quickly. One that raises is not called again.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)
        return lambda: self._unsubscribe(listener)

    def start(self, name: str) -> None:
        """Begin to watch a stream; idempotent.

        Raises:
            UnknownStreamError: there is none of this name.
            ValueError: the engine has closed, or has not yet let go of a stream that was closed a
                moment ago; it may be tried again.
        """
        entry = self._entry(name)
        with self._lock:
            started, entry.started = entry.started, True
        if started:
            return
        try:
            entry.session.start()
        except ValueError:
            entry.started = False
            raise

    def start_all(self) -> None:
        """Begin to watch every stream that was not started yet."""
        for name, _ in self._items():
            self.start(name)

    def wait_all(self, timeout_s: float | None = None) -> bool:
        """Wait until every source has ended, with its frames and questions.

        Returns:
            False if the time ran out first.
        """
        until_s = None if timeout_s is None else self._clock() + timeout_s
        ended = True
        for _, entry in self._items():
            left_s = None if until_s is None else max(0.0, until_s - self._clock())
            ended &= entry.session.wait(left_s)
        return ended

    def stop_all(self, reason: str, within_s: float) -> bool:
        """Stop every stream and wait for their ends; False if the time ran out first."""
        for _, entry in self._items():
            entry.session.stop(reason)
        return self.wait_all(within_s)

    def close(self, name: str, reason: str, within_s: float) -> bool:
        """Stop a stream and forget it; its name and place are free.

        Returns:
            False if it had not ended in time; it is forgotten all the same.
        """
        session = self.get(name)
        session.stop(reason)
        ended = session.wait(within_s)
        with self._lock:
            self._entries.pop(name, None)
        return ended

    def _entry(self, name: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(name)
            names = [name for name, entry in self._entries.items() if entry.listed]
        if entry is None:
            raise UnknownStreamError(name, names)
        return entry

    def _items(self) -> list[tuple[str, _Entry]]:
        with self._lock:
            return list(self._entries.items())

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                logging.getLogger(__name__).exception("a listener failed: it is not called again")
                self._unsubscribe(listener)

    def _unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = tuple(one for one in self._listeners if one is not listener)


def check_name(name: str) -> str:
    """The name; StreamRefusedError if a stream cannot be called so."""
    if STREAM_NAME.fullmatch(name) is None:
        # What has these may be an address in the wrong place, with a password.
        shown = "" if set(name) & set(":/@?#") else f", not {name[:80]!r}"
        raise StreamRefusedError(f"a stream's name is 1 to 64 letters, digits, - and _{shown}")
    return name
