"""Talks with the clients of ivl.v1 over their sockets, whichever server and library these are of.

Servers of one event loop share one `Talk`, and so the sessions of all clients: the hub is told what
happens, and ticked, once for all of them.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Protocol

from websockets.exceptions import ConnectionClosed

from stream.client_socket import Socket
from stream.hub import Connection, Hub
from stream.ingest import INGEST_PATH, Ingest
from stream.live_view import LIVE_PATH, LiveView
from stream.metrics import Metrics
from stream.token_bucket import TokenBucket
from stream.visitors import VISITORS_PATH

QUERY_PATH = "/v1/stream"
MAX_SOCKETS = 128
# What a client may send before its socket is read more slowly.
MESSAGES_S, MESSAGE_BURST = 50.0, 100
# How many clients are let in: many at the same moment would hold up a frame.
CLIENTS_S, CLIENT_BURST = 50.0, 4
# Who would have to wait longer is refused: one who comes and goes all the time keeps no one out.
MOST_WAIT_S = 2.0
SLOW_S, TICK_S, DRAIN_S = 5.0, 0.05, 20.0
# How long questions that are cancelled in the end have for theirs.
_CANCEL_S = 1.0
# A client that does not answer a ping for so long is gone.
PING_S = 20.0
_TRY_AGAIN_LATER = 1013


def is_socket_path(path: str) -> bool:
    """Whether clients talk there, with a websocket."""
    return path == QUERY_PATH or path.startswith((INGEST_PATH, LIVE_PATH))


def scope_of(path: str) -> str:
    """What a token must allow for a path."""
    return "ingest" if path.startswith((INGEST_PATH, VISITORS_PATH)) else "query"


class Asked(Protocol):
    """Where questions are open."""

    @property
    def num_open(self) -> int: ...

    def cancel_all(self) -> None: ...


async def see_out(asked: Asked, within_s: float) -> None:
    """See what is open to its end; what has none by then is cancelled, so that it is told one."""
    await _none_open(asked, within_s)
    asked.cancel_all()
    await _none_open(asked, _CANCEL_S)


async def _none_open(asked: Asked, within_s: float) -> None:
    until_s = time.monotonic() + within_s
    while asked.num_open and time.monotonic() < until_s:
        await asyncio.sleep(TICK_S)


class Talk:
    """Clients that ask, that push and that look, each from its coming to its going.

    `live` is what those see who look.
    """

    def __init__(self, hub: Hub, metrics: Metrics, ingest: Ingest | None = None) -> None:
        self._hub, self._metrics, self._ingest = hub, metrics, ingest or Ingest({})
        self.live = LiveView(hub.registry)
        self._coming = TokenBucket(CLIENTS_S, CLIENT_BURST, time.monotonic())
        self._num_servers = 0
        self._ending = contextlib.ExitStack()
        metrics.count_connections(lambda: float(hub.num_connections))

    @property
    def draining(self) -> bool:
        """Whether the program is about to end."""
        return self._hub.draining

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """While any server is within this, the hub is told what happens and is ticked."""
        self._num_servers += 1
        if self._num_servers == 1:
            loop = asyncio.get_running_loop()
            self._ending.callback(self._hub.subscribe(loop))
            self._ending.callback(self.live.subscribe(loop))
            self._ending.callback(asyncio.create_task(self._tick()).cancel)
        try:
            yield
        finally:
            self._num_servers -= 1
            if not self._num_servers:
                self._ending.close()

    async def drain(self) -> None:
        """Accept no more questions, say so, and see what is open to its end, within DRAIN_S."""
        if not self._hub.draining:
            self._hub.drain(DRAIN_S, "the server ends")
        await see_out(self._hub, DRAIN_S)
        # What was pushed last is on its way within a tick.
        await asyncio.sleep(TICK_S)

    async def let_come(self) -> bool:
        """Wait until one more client may come; False if there are as many as may be, or wait."""
        wait_s = self._coming.wait_s(time.monotonic())
        if wait_s > MOST_WAIT_S:
            return False
        self._coming.take()
        await asyncio.sleep(wait_s)
        return self._hub.num_connections < MAX_SOCKETS

    async def with_client(self, socket: Socket, path: str) -> None:
        """One client whose socket is of this path, until it goes."""
        with contextlib.suppress(ConnectionClosed):
            if path.startswith(INGEST_PATH):
                await self._ingest.handle(socket, path.removeprefix(INGEST_PATH))
            elif path.startswith(LIVE_PATH):
                await self.live.handle(socket, path.removeprefix(LIVE_PATH), SLOW_S)
            else:
                await self._with_asker(socket)

    async def _with_asker(self, socket: Socket) -> None:
        connection = self._hub.connect(socket.abort)
        writer = asyncio.create_task(self._write(socket, connection))
        try:
            await self._read(socket, connection)
        finally:
            writer.cancel()
            self._hub.disconnect(connection)

    async def _tick(self) -> None:
        while True:
            self._hub.tick()
            await asyncio.sleep(TICK_S)

    async def _read(self, socket: Socket, connection: Connection) -> None:
        bucket = TokenBucket(MESSAGES_S, MESSAGE_BURST, time.monotonic())
        async for data in socket:
            # Also for no time: messages that have come already would let nobody else run.
            await asyncio.sleep(bucket.wait_s(time.monotonic()))
            bucket.take()
            self._hub.receive(connection, data)

    async def _write(self, socket: Socket, connection: Connection) -> None:
        """Send what waits; whoever does not read it is let go, and holds up nobody."""
        outbox = connection.outbox
        with contextlib.suppress(ConnectionClosed):
            while not outbox.overflowed:
                message = await outbox.pop()
                try:
                    async with asyncio.timeout(SLOW_S):
                        await socket.send(message)
                except TimeoutError:
                    break
            self._metrics.slow_consumer_closed()
            await socket.close(_TRY_AGAIN_LATER, "read faster")
