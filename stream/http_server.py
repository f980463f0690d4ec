"""Serves the HTTP application with uvicorn, until it is told to stop."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from stream.asking import Asking
from stream.doors import Doors
from stream.hub import MAX_MESSAGE_BYTES
from stream.server import Address
from stream.talk import (
    DRAIN_S,
    MAX_SOCKETS,
    MESSAGE_BURST,
    MESSAGES_S,
    PING_S,
    SLOW_S,
    TICK_S,
    Talk,
    is_socket_path,
    see_out,
)
from stream.token_bucket import TokenBucket
from stream.upgraded_socket import UpgradedSocket

_HEADER_BYTES = 1 << 14
# How long a connection may be without a whole request.
IDLE_S = 5
# Of a body so much has to come in so long, unless it is we who do not take it.
BODY_BYTES, BODY_S = 1 << 14, 15.0
# How long what is cut off has for its end.
CLOSE_S = 1.0


class Guarded(H11Protocol):
    """A connection that neither holds up others nor takes up their room, whoever it is.

    It is let go if it begins no request or does not come to its body, as is one that idles or whose
    body does not come on; and one that asks and asks is answered more slowly.
    """

    _watched: RequestResponseCycle | None = None
    _num_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._bucket = TokenBucket(MESSAGES_S, MESSAGE_BURST, self.loop.time())
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        # Unlike what it stands in for, this lets the time run on until a request is whole.
        self._num_bytes += len(data)
        self.conn.receive_data(data)
        self.handle_events()

    def handle_events(self) -> None:
        # Also called when a request that came early has its turn.
        super().handle_events()
        if self.cycle is not self._watched:
            self._watched = self.cycle
            self._watch_body(self.cycle)

    def _watch_body(self, cycle: RequestResponseCycle) -> None:
        """Let it go if too little of a request's body comes: nothing else would ever end it."""
        came = self._num_bytes

        def is_due() -> bool:
            return cycle.more_body and not (cycle.response_complete or cycle.disconnected)

        def look() -> None:
            if self._num_bytes - came >= BODY_BYTES or self.flow.read_paused:
                self._watch_body(cycle)
            elif is_due():
                self.transport.abort()

        if is_due():
            self.loop.call_later(BODY_S, look)

    def on_response_complete(self) -> None:
        self._bucket.take()
        # Its next request is read then.
        wait_s = self._bucket.wait_s(self.loop.time())
        self.loop.call_later(wait_s, super().on_response_complete)

    def _should_upgrade(self) -> bool:
        # Elsewhere a request to upgrade is answered as if it were none.
        may_ask = (self.scope["method"], self.scope["http_version"]) == ("GET", "1.1")
        return (
            may_ask and self._get_upgrade() == b"websocket" and is_socket_path(self.scope["path"])
        )


class HttpServer:
    """Beside the websocket server or alone; told to stop, it sees open questions to their end."""

    def __init__(
        self,
        app: FastAPI,
        asking: Asking,
        talk: Talk,
        doors: Doors,
        address: Address,
        path: str = "/v1",
    ) -> None:
        """Prepare; `path` is what users want to know of it, by default OpenAI's API."""
        doors.check_bind(address.host)
        self._app, self._asking, self._talk, self._address = app, asking, talk, address
        self._path = path
        self._port = address.port
        # Apart from those of other requests, for which there is as much room as without them.
        self._websockets = ServerState()

    @property
    def url(self) -> str:
        """Where users find what they want to know of it."""
        host, scheme = self._address.host, "http" if self._address.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}{self._path}"

    async def run(self, stopped: asyncio.Event, started: Callable[[], None]) -> None:
        """Serve; after `stopped` see open questions to their end, within DRAIN_S, and close."""
        loop = asyncio.get_running_loop()
        sockets = await self._listen(loop)
        self._port = sockets[0].getsockname()[1]
        server = uvicorn.Server(self._config())
        unsubscribe = self._asking.subscribe(loop)
        async with self._talk.served():
            serving = asyncio.create_task(server.serve(sockets))
            try:
                started()
                await stopped.wait()
                await asyncio.gather(self._talk.drain(), self._drain())
            finally:
                server.should_exit = True
                await serving
                await self._close_websockets()
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
            ws=self._upgraded,  # type: ignore[arg-type]  # where a class is meant
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,
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

    def _upgraded(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> UpgradedSocket:
        self._websockets.default_headers = server_state.default_headers
        return UpgradedSocket(config, self._websockets, app_state)

    async def _close_websockets(self) -> None:
        state = self._websockets
        for websocket in list(state.connections):
            websocket.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while state.connections or state.tasks:
                    await asyncio.sleep(TICK_S)
        for websocket in list(state.connections):
            if isinstance(websocket, UpgradedSocket):
                websocket.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=CLOSE_S)

    async def _drain(self) -> None:
        self._asking.drain()
        await see_out(self._asking, DRAIN_S)
