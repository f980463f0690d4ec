"""Serves the HTTP application with uvicorn, until it is told to stop."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from stream.asking import Asking
from stream.doors import Doors
from stream.server import (
    DRAIN_S,
    MAX_SOCKETS,
    MESSAGE_BURST,
    MESSAGES_S,
    SLOW_S,
    TICK_S,
    Address,
)
from stream.token_bucket import TokenBucket

_HEADER_BYTES = 1 << 14
# How long a connection may be without a whole request.
IDLE_S = 5


class Guarded(H11Protocol):
    """A connection that neither holds up others nor takes up their room, whoever it is.

    It is let go if it begins no request or does not come to its body, as is one that idles; and
    one that asks and asks is answered more slowly.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._bucket = TokenBucket(MESSAGES_S, MESSAGE_BURST, self.loop.time())
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        # Unlike what it stands in for, this lets the time run on until a request is whole.
        self.conn.receive_data(data)
        self.handle_events()

    def on_response_complete(self) -> None:
        self._bucket.take()
        # Its next request is read then.
        wait_s = self._bucket.wait_s(self.loop.time())
        self.loop.call_later(wait_s, super().on_response_complete)


class HttpServer:
    """Beside the websocket server or alone; told to stop, it sees open questions to their end."""

    def __init__(self, app: FastAPI, asking: Asking, doors: Doors, address: Address) -> None:
        doors.check_bind(address.host)
        self._app, self._asking, self._address = app, asking, address
        self._port = address.port

    @property
    def url(self) -> str:
        """What clients of OpenAI's API take for its base."""
        host, scheme = self._address.host, "http" if self._address.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}/v1"

    async def run(self, stopped: asyncio.Event, started: Callable[[], None]) -> None:
        """Serve; after `stopped` see open questions to their end, within DRAIN_S, and close."""
        loop = asyncio.get_running_loop()
        sockets = await self._listen(loop)
        self._port = sockets[0].getsockname()[1]
        server = uvicorn.Server(self._config())
        unsubscribe = self._asking.subscribe(loop)
        serving = asyncio.create_task(server.serve(sockets))
        try:
            started()
            await stopped.wait()
            await self._drain()
        finally:
            server.should_exit = True
            await serving
            unsubscribe()

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        """A socket for each address of the host, all of one port."""
        infos = await loop.getaddrinfo(self._address.host, self._port, type=socket.SOCK_STREAM)
        port, sockets = self._port, []
        for family, _, _, _, (host, *_) in dict.fromkeys(infos):
            listening = socket.create_server((str(host), port), family=family, backlog=MAX_SOCKETS)
            port = listening.getsockname()[1]
            with contextlib.suppress(AttributeError):  # where there is none, such a client may stay
                # Linux itself lets go of a client that reads nothing, which tells the application.
                listening.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(SLOW_S * 1e3)
                )
            sockets.append(listening)
        return sockets

    def _config(self) -> uvicorn.Config:
        tls = self._address.tls

        def context(*_: object) -> ssl.SSLContext:
            assert tls is not None
            return tls

        return uvicorn.Config(
            self._app,
            http=Guarded,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_SOCKETS,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_keep_alive=IDLE_S,
            ssl_context_factory=None if tls is None else context,
        )

    async def _drain(self) -> None:
        self._asking.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._none_open()
        self._asking.cancel_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._none_open()

    async def _none_open(self) -> None:
        while self._asking.num_open:
            await asyncio.sleep(TICK_S)
