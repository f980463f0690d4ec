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
import itertools
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect, process_exception
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from stream.protocol import (
    PROTOCOL,
    SERVER_MESSAGES,
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
)

Watched = StreamState | Stats | GoingAway
_WATCHED_KEPT = 256


class RefusedError(Exception):
    """The server refused something; `code` is one of the protocol's."""

    def __init__(self, message: ErrorMessage) -> None:
        super().__init__(message.error.message)
        self.code = message.error.code
        self.retry_after_ms = message.error.retry_after_ms


class Answer:
    """An accepted question: iterate over its text; `done` is there when that has ended."""

    def __init__(self, client: "Client", id: str) -> None:
        self.id = id
        self.done: AnswerDoneMessage | None = None
        self._client = client
        self._heard = 0
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (text := await self._texts.get()) is not None:
            yield text

    async def text(self) -> str:
        """Wait for the whole answer."""
        async for _ in self:
            pass
        assert self.done is not None
        return self.done.text

    async def cancel(self) -> None:
        """Ask for its end; it still ends by `done`."""
        await self._client.send(QueryCancel(type="query.cancel", id=self.id))

    def hear(self, message: AnswerDeltaMessage | AnswerDoneMessage) -> None:
        """Take more of it; what a lost connection swallowed comes with the end."""
        match message:
            case AnswerDeltaMessage(seq=seq, delta=delta) if seq == self._heard:
                self._heard += len(delta)
                self._texts.put_nowait(delta)
            case AnswerDoneMessage() if self.done is None:
                self.done = message
                if rest := message.text[self._heard :]:
                    self._texts.put_nowait(rest)
                self._texts.put_nowait(None)


class Client:
    """One session, over as many connections as it takes; for one event loop."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.session: SessionCreated | None = None
        self._url, self._token = url, token
        self._ids = itertools.count(1)
        self._answers: dict[str, Answer] = {}
        self._accepting: dict[str, tuple[QueryCreate, asyncio.Future[None]]] = {}
        self._watched: asyncio.Queue[Watched] = asyncio.Queue(_WATCHED_KEPT)
        self._subscriptions: dict[str, StreamSubscribe] = {}
        self._num_ended = 0
        self._resume_token: str | None = None
        self._socket: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises what websockets raises if that is refused for good."""
        self._task = asyncio.create_task(self._run())
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            ready.cancel()
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
        """Ask; returns when the question was accepted, and raises RefusedError if it was not."""
        id = f"q{next(self._ids)}"
        create = QueryCreate(
            type="query.create",
            id=id,
            text=text,
            stream=stream,
            max_tokens=max_tokens,
            deadline_ms=deadline_ms,
        )
        answer = self._answers[id] = Answer(self, id)
        accepted = asyncio.get_running_loop().create_future()
        self._accepting[id] = create, accepted
        try:
            await self.send(create)
            await accepted
        except RefusedError:
            self._answers.pop(id, None)
            raise
        finally:
            del self._accepting[id]
        return answer

    async def watch(
        self, stream: str, *channels: Channel, stats_interval_ms: int = 1000
    ) -> AsyncIterator[Watched]:
        """States and statistics of a stream as they come; the oldest go if nobody takes them."""
        subscription = StreamSubscribe(
            type="stream.subscribe",
            stream=stream,
            channels=channels or ("state", "stats"),
            stats_interval_ms=stats_interval_ms,
        )
        self._subscriptions[stream] = subscription
        await self.send(subscription)
        while True:
            yield await self._watched.get()

    async def send(self, message: ClientMessage) -> None:
        """Send a message; while there is no connection, wait for one."""
        while True:
            await self._ready.wait()
            assert self._socket is not None
            try:
                return await self._socket.send(message.model_dump_json(exclude_none=True))
            except ConnectionClosed:
                await asyncio.sleep(0.05)

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        async for socket in connect(
            self._url,
            subprotocols=[Subprotocol(PROTOCOL)],
            additional_headers=headers,
            compression=None,
            process_exception=self._worth_another_try,
        ):
            self._socket = socket
            try:
                await self._listen(socket)
            except ConnectionClosed:
                pass
            finally:
                self._ready.clear()

    def _worth_another_try(self, error: Exception) -> Exception | None:
        """None to try again; who has never been there may not exist."""
        return error if self.session is None else process_exception(error)

    async def _listen(self, socket: ClientConnection) -> None:
        async for data in socket:
            try:
                message = SERVER_MESSAGES.validate_json(data)
            except ValidationError:
                continue  # of a later version of the protocol
            await self._hear(message, socket)

    async def _hear(self, message: AnyServerMessage, socket: ClientConnection) -> None:
        match message:
            case SessionCreated():
                await self._begin(message, socket)
            case SessionUpdated(resume_token=token):
                self._resume_token = token
                await self._catch_up(socket)
            case QueryAccepted(id=id):
                self._accept(id)
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
                if self._watched.full():
                    self._watched.get_nowait()
                self._watched.put_nowait(message)

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
        self._resume_token = message.resume_token
        await socket.send(resume.model_dump_json(exclude_none=True))

    async def _catch_up(self, socket: ClientConnection) -> None:
        """What the lost connection may have swallowed is said again."""
        creates = [create for create, accepted in self._accepting.values() if not accepted.done()]
        for message in (*self._subscriptions.values(), *creates):
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
            # The session is lost, and with it what was open.
            for answer in self._answers.values():
                answer.hear(_lost(answer.id, message.error.message))
            self._answers.clear()
            await self._catch_up(socket)


def _lost(id: str, why: str) -> AnswerDoneMessage:
    """The end of an answer that will never be heard."""
    return AnswerDoneMessage.model_validate(
        {
            "id": id,
            "number": 0,
            "stream": "",
            "status": "failed",
            "reason": why,
            "text": "",
            "tokens": 0,
            "frames": {"count": 0},
            "latency_ms": {"total": 0.0},
        }
    )


if __name__ == "__main__":
    from stream.client_command import main

    main()
