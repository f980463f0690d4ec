"""Pushes pictures to a stream that takes them.

async with Pusher("ws://127.0.0.1:8765/v1/ingest/robot") as pusher:
    await pusher.push(jpeg)
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from stream.client_heard import RefusedError
from stream.dialling import dial, known_messages
from stream.protocol import ErrorMessage, FrameAck, IngestReady


class Pusher:
    """One connection; raises RefusedError for a picture that was not taken, at the next push."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.num_taken = 0
        self._url, self._token = url, token
        self._socket: ClientConnection | None = None
        self._credit = asyncio.Semaphore(0)
        self._refused: RefusedError | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises what websockets raises if that is refused for good.

        Raises:
            RefusedError: the stream takes no pictures from here.
            ConnectionError: the connection was closed before it took any.
        """
        self._socket = await dial(self._url, self._token)
        async with contextlib.AsyncExitStack() as leaving:
            leaving.push_async_callback(self._socket.close)
            ready = await self._ready(self._socket)
            leaving.pop_all()
        for _ in range(ready.credit):
            self._credit.release()
        self._task = asyncio.create_task(self._listen(self._socket))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._socket is not None and self._task is not None
        await self._socket.close()
        await self._task

    async def push(self, picture: bytes) -> None:
        """Send a JPEG, PNG or WebP picture as soon as there is credit for it."""
        await self._credit.acquire()
        refused, self._refused = self._refused, None
        if refused is not None:
            self._credit.release()
            raise refused
        assert self._socket is not None
        try:
            await self._socket.send(picture)
        except ConnectionClosed:
            self._credit.release()  # the next who waits for credit shall find out, too
            raise

    async def _ready(self, socket: ClientConnection) -> IngestReady:
        async for message in known_messages(socket):
            match message:
                case IngestReady():
                    return message
                case ErrorMessage():
                    raise RefusedError(message)
        raise ConnectionError("the server closed the connection before it took a picture")

    async def _listen(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in known_messages(socket):
                match message:
                    case FrameAck(taken=taken):
                        self.num_taken = taken
                    case ErrorMessage():
                        self._refused = RefusedError(message)
                self._credit.release()
        # The connection is gone: whoever waits for credit shall find out by sending.
        self._credit.release()
