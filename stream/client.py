"""A client of ivl.v1 for asyncio, and a command.

    async with Client("ws://127.0.0.1:8765/v1/stream") as client:
        answer = await client.ask("What do you see?")
        async for text in answer:
            print(text, end="")
        print(answer.done.status)

    python -m stream.client ws://127.0.0.1:8765/v1/stream "What do you see?"
    python -m stream.client ws://127.0.0.1:8765/v1/stream "Is there a cat?" --follow

A lost connection is made again, and what was answered meanwhile is told then. A token is read from
the environment variable IVL_TOKEN.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, process_exception
from websockets.exceptions import ConnectionClosed

from stream.client_heard import Answer, RefusedError, lost
from stream.client_watches import Watched, Watches
from stream.dialling import dial, known_messages
from stream.protocol import (
    AnswerDeltaMessage,
    AnswerDoneMessage,
    AnyServerMessage,
    Channel,
    ClientMessage,
    ErrorMessage,
    GoingAway,
    QueryAccepted,
    QueryCancel,
    QueryCreate,
    SessionCreated,
    SessionUpdate,
    SessionUpdated,
    Stats,
    StreamState,
    StreamSubscribe,
    StreamUnsubscribe,
)

__all__ = ["Answer", "Client", "RefusedError", "Watched"]

_PAUSE_S = 0.5


class Client:
    """One session, over as many connections as it takes; for one event loop."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.session: SessionCreated | None = None
        self._url, self._token = url, token
        self._ids = itertools.count(1)
        self._answers: dict[str, Answer] = {}
        self._accepting: dict[str, tuple[QueryCreate, asyncio.Future[None]]] = {}
        self._watches = Watches()
        self._num_ended = 0
        self._resume_token: str | None = None
        self._socket: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._over: str | None = None  # why there will be no connection any more

    async def __aenter__(self) -> Self:
        """Connect; raises what websockets raises if that is refused for good.

        Raises:
            RefusedError: there is no session to be had at this address.
            ConnectionError: the connection was closed before there was one.
        """
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._end)
        try:
            await self._ready.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        if self._socket is not None:
            await self._socket.close()
        await asyncio.gather(self._task, return_exceptions=True)

    async def ask(
        self,
        text: str,
        *,
        stream: str | None = None,
        max_tokens: int = 64,
        deadline_ms: int | None = None,
    ) -> Answer:
        """Ask; returns when the question was accepted.

        Raises:
            RefusedError: it was not accepted.
            ConnectionError: there is no connection, and will not be one again.
        """
        id = f"q{next(self._ids)}"
        create = QueryCreate(
            type="query.create",
            id=id,
            text=text,
            stream=stream,
            max_tokens=max_tokens,
            deadline_ms=deadline_ms,
        )
        answer = self._answers[id] = Answer(self.send, id)
        accepted = asyncio.get_running_loop().create_future()
        # Looked at, else asyncio complains of a refusal that comes while this is still being sent.
        accepted.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._accepting[id] = create, accepted
        try:
            await self.send(create)
            await accepted
        except BaseException:
            # Also if it is waited for no longer: what is accepted then is cancelled by `_hear`.
            self._answers.pop(id, None)
            raise
        finally:
            del self._accepting[id]
        return answer

    async def watch(
        self, stream: str, *channels: Channel, stats_interval_ms: int = 1000
    ) -> AsyncIterator[Watched]:
        """States and statistics of a stream as they come; the oldest go if nobody takes them.

        Raises:
            RefusedError: there is no such stream.
            ConnectionError: the client was closed, or there is no way back.
        """
        wanted = StreamSubscribe(
            type="stream.subscribe",
            stream=stream,
            channels=channels or ("state", "stats"),
            stats_interval_ms=stats_interval_ms,
        )
        watch = self._watches.add(wanted)
        try:
            await self.send(self._watches.subscription(stream))
            while (message := await watch.told.get()) is not None:
                if isinstance(message, RefusedError):
                    raise message
                yield message
            raise ConnectionError(self._over)
        finally:
            self._watches.remove(watch)
            if stream not in self._watches.streams:
                await self._unsubscribe(stream)

    async def _unsubscribe(self, stream: str) -> None:
        """Nobody watches a stream any more; a connection that is not there need not be told."""
        if self._socket is not None:
            message = StreamUnsubscribe(type="stream.unsubscribe", stream=stream)
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(message.model_dump_json())

    async def send(self, message: ClientMessage) -> None:
        """Send a message; while there is no connection, wait for one.

        Raises ConnectionError if there will be none.
        """
        while True:
            await self._ready.wait()
            if self._over is not None:
                raise ConnectionError(self._over)
            assert self._socket is not None
            try:
                return await self._socket.send(message.model_dump_json(exclude_none=True))
            except ConnectionClosed:
                await asyncio.sleep(0.05)

    async def _run(self) -> None:
        async for socket in dial(self._url, self._token, self._worth_another_try):
            self._socket = socket
            try:
                await self._listen(socket)
            except ConnectionClosed:
                pass
            finally:
                begun = self._ready.is_set()
                self._ready.clear()
            if self.session is None:
                raise ConnectionError("the server closed the connection before a session began")
            if not begun:
                # The next one may end alike: what is in front of a server that is down lets us in.
                await asyncio.sleep(_PAUSE_S)

    def _end(self, task: asyncio.Task[None]) -> None:
        """There will be no connection any more: nobody shall wait for what cannot come."""
        error = None if task.cancelled() else task.exception()
        self._over = "the client was closed" if error is None else f"no way back: {error}"
        self._ready.set()
        for _, accepted in self._accepting.values():
            if not accepted.done():
                accepted.set_exception(ConnectionError(self._over))
        self._lose(self._over)
        self._watches.end()

    def _lose(self, why: str) -> None:
        """What was accepted and is open will never be answered."""
        unsure = {id for id, (_, accepted) in self._accepting.items() if not accepted.done()}
        for id in self._answers.keys() - unsure:
            self._answers.pop(id).hear(lost(id, why))

    def _worth_another_try(self, error: Exception) -> Exception | None:
        """None to try again; who has never been there may not exist."""
        return error if self.session is None else process_exception(error)

    async def _listen(self, socket: ClientConnection) -> None:
        async for message in known_messages(socket):
            await self._hear(message, socket)

    async def _hear(self, message: AnyServerMessage, socket: ClientConnection) -> None:
        match message:
            case SessionCreated():
                await self._begin(message, socket)
            case SessionUpdated(resume_token=token):
                self._resume_token = token
                await self._catch_up(socket)
            case QueryAccepted(id=id) if id in self._answers:
                self._accept(id)
            case QueryAccepted(id=id):
                await socket.send(QueryCancel(type="query.cancel", id=id).model_dump_json())
            case AnswerDeltaMessage(id=id) if id in self._answers:
                self._answers[id].hear(message)
            case AnswerDoneMessage(id=id, number=number):
                self._num_ended = max(self._num_ended, number)
                self._accept(id)
                if (answer := self._answers.pop(id, None)) is not None:
                    answer.hear(message)
            case ErrorMessage():
                await self._refused(message, socket)
            case StreamState() | Stats() | GoingAway():
                self._watches.tell(message)

    async def _begin(self, message: SessionCreated, socket: ClientConnection) -> None:
        """A connection stands; the first thing is to take up the session of the last one."""
        self.session = message
        if self._resume_token is None:
            self._resume_token = message.resume_token
            self._ready.set()
            return
        resume = SessionUpdate(
            type="session.update", resume_token=self._resume_token, after=self._num_ended
        )
        await socket.send(resume.model_dump_json(exclude_none=True))

    async def _catch_up(self, socket: ClientConnection) -> None:
        """What the lost connection may have swallowed is said again."""
        creates = [create for create, accepted in self._accepting.values() if not accepted.done()]
        subscriptions = map(self._watches.subscription, self._watches.streams)
        for message in (*subscriptions, *creates):
            await socket.send(message.model_dump_json(exclude_none=True))
        self._ready.set()

    def _accept(self, id: str) -> None:
        _, accepted = self._accepting.get(id, (None, None))
        if accepted is not None and not accepted.done():
            accepted.set_result(None)

    async def _refused(self, message: ErrorMessage, socket: ClientConnection) -> None:
        _, accepted = self._accepting.get(message.id or "", (None, None))
        if message.error.code == "duplicate_id" and message.id is not None:
            self._accept(message.id)  # it was said again
        elif accepted is not None and not accepted.done():
            accepted.set_exception(RefusedError(message))
        elif message.error.param == "resume_token":
            # The session is lost, and with it what was open; the new one counts from 1.
            assert self.session is not None
            self._resume_token, self._num_ended = self.session.resume_token, 0
            self._lose(message.error.message)
            await self._catch_up(socket)
        elif message.stream is not None:
            self._watches.refuse(message.stream, message)
        elif message.fatal and self.session is None:
            raise RefusedError(message)


if __name__ == "__main__":
    from stream.client_command import main

    main()
