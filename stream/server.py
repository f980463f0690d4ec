"""The websocket server: ivl.v1 at /v1/stream, and a few pages for machines beside it.

Pages: /healthz and /readyz (a dead camera does not make it unready), /metrics for Prometheus,
/v1/streams, and /v1/streams/NAME/frame.jpg, the newest frame of one. Another websocket, at
/v1/ingest/NAME, takes pictures that are pushed.
"""

import asyncio
import contextlib
import errno
import http
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from stream.doors import Doors, ShutOutError
from stream.guarded_socket import GuardedSocket
from stream.hub import MAX_MESSAGE_BYTES, Connection, Hub
from stream.ingest import INGEST_PATH, MAX_PICTURE_BYTES, Ingest
from stream.metrics import Metrics
from stream.pages import Page, Pages, text_page
from stream.protocol import PROTOCOL
from stream.registry import StreamRegistry
from stream.token_bucket import TokenBucket

QUERY_PATH = "/v1/stream"
MAX_SOCKETS = 128
# What a client may send before its socket is read more slowly.
MESSAGES_S, MESSAGE_BURST = 50.0, 100
# How many clients are let in: many at the same moment would hold up a frame.
CLIENTS_S, CLIENT_BURST = 50.0, 4
SLOW_S, TICK_S, DRAIN_S = 5.0, 0.05, 20.0
# A handshake takes no longer, and a client that does not answer a ping for so long is gone.
OPEN_S, PING_S = 10.0, 20.0
_TRY_AGAIN_LATER = 1013


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, port 0 for any.

    `origins` are those of web pages that may connect. Without them none may: else any page that
    someone on this machine looks at could ask.
    """

    host: str
    port: int
    origins: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None


class Server:
    """Serves the streams of a registry until it is told to stop."""

    def __init__(
        self,
        hub: Hub,
        registry: StreamRegistry,
        metrics: Metrics,
        doors: Doors,
        address: Address,
        ingest: Ingest | None = None,
    ) -> None:
        doors.check_bind(address.host)
        self._ingest = ingest or Ingest({})
        self._hub, self._metrics, self._pages = hub, metrics, Pages(registry, metrics)
        self._doors, self._address = doors, address
        self._port = address.port
        self._coming = TokenBucket(CLIENTS_S, CLIENT_BURST, time.monotonic())
        metrics.count_connections(lambda: float(hub.num_connections))

    @property
    def url(self) -> str:
        """What clients connect to."""
        host, scheme = self._address.host, "ws" if self._address.tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}{QUERY_PATH}"

    async def run(self, stopped: asyncio.Event, started: Callable[[], None]) -> None:
        """Serve; after `stopped` see open questions to their end, within DRAIN_S, and close."""
        unsubscribe = self._hub.subscribe(asyncio.get_running_loop())
        address = self._address
        try:
            async with serve(
                self._handle,
                address.host,
                address.port,
                process_request=self._admit,
                subprotocols=[Subprotocol(PROTOCOL)],
                origins=[*map(Origin, address.origins), None],
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=8,
                open_timeout=OPEN_S,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=1.0,
                ssl=address.tls,
                server_header=None,
                create_connection=GuardedSocket,
            ) as server:
                self._port = next(iter(server.sockets)).getsockname()[1]
                started()
                ticking = asyncio.create_task(self._tick())
                await stopped.wait()
                await self._drain()
                ticking.cancel()
        finally:
            unsubscribe()

    async def _tick(self) -> None:
        while True:
            self._hub.tick()
            await asyncio.sleep(TICK_S)

    async def _drain(self) -> None:
        self._hub.drain(DRAIN_S, "the server ends")
        until_s = time.monotonic() + DRAIN_S
        while self._hub.num_open and time.monotonic() < until_s:
            await asyncio.sleep(TICK_S)
        # What was pushed last is on its way within a tick.
        await asyncio.sleep(TICK_S)

    async def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer what is no websocket; None lets one in."""
        path = request.path.partition("?")[0]
        if request.method not in ("GET", "HEAD"):
            refused = _text(405, "only GET and HEAD")
            refused.headers["Allow"] = "GET, HEAD"
            return refused
        response = await self._answer(socket, request, path)
        if response is not None and request.method == "HEAD":
            response.body = b""
        return response

    async def _answer(
        self, socket: ServerConnection, request: Request, path: str
    ) -> Response | None:
        if path == "/healthz":
            return _text(200, "alive")
        if path == "/readyz":
            return _text(503, "draining") if self._hub.draining else _text(200, "ready")
        pushes = path.startswith(INGEST_PATH)
        talks = pushes or path == QUERY_PATH
        headers, scope = request.headers, "ingest" if pushes else "query"
        ticket = _ticket(request.path) if talks else None
        try:
            self._doors.let_in(
                scope, headers.get_all("Host"), headers.get_all("Authorization"), ticket
            )
        except ShutOutError as error:
            response = _text(error.status, str(error))
            if error.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if pushes:
            socket.protocol.max_message_size = MAX_PICTURE_BYTES
        if talks:
            wait_s = self._coming.wait_s(time.monotonic())
            self._coming.take()
            await asyncio.sleep(wait_s)
            full = self._hub.num_connections >= MAX_SOCKETS
            return _text(503, "too many clients") if full else None
        return _response(await asyncio.to_thread(self._pages.at, path))

    async def _handle(self, socket: ServerConnection) -> None:
        """One client, from its coming to its going."""
        path = socket.request.path.partition("?")[0] if socket.request else ""
        if path.startswith(INGEST_PATH):
            with contextlib.suppress(ConnectionClosed):
                await self._ingest.handle(socket, path.removeprefix(INGEST_PATH))
            return
        connection = self._hub.connect(socket.transport.abort)
        writer = asyncio.create_task(self._write(socket, connection))
        try:
            await self._read(socket, connection)
        except ConnectionClosed:
            pass
        finally:
            writer.cancel()
            self._hub.disconnect(connection)

    async def _read(self, socket: ServerConnection, connection: Connection) -> None:
        bucket = TokenBucket(MESSAGES_S, MESSAGE_BURST, time.monotonic())
        async for data in socket:
            # Also for no time: messages that have come already would let nobody else run.
            await asyncio.sleep(bucket.wait_s(time.monotonic()))
            bucket.take()
            self._hub.receive(connection, data)

    async def _write(self, socket: ServerConnection, connection: Connection) -> None:
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


class Serves(Protocol):
    """What a ServerThread runs; `run` may raise OSError before it has started."""

    @property
    def url(self) -> str: ...

    async def run(self, stopped: asyncio.Event, started: Callable[[], None]) -> None: ...


class ServerThread:
    """Servers on one thread and event loop of their own, so that they may share what is theirs."""

    def __init__(self, *servers: Serves) -> None:
        self._servers = servers
        self._not_started = len(servers)
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._started = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    @property
    def urls(self) -> list[str]:
        """Where clients find each server, once started."""
        return [server.url for server in self._servers]

    @property
    def num_tasks(self) -> int:
        """Tasks of its event loop: some of its own, and a few for every client."""
        return len(asyncio.all_tasks(self._loop))

    def start(self) -> str:
        """Begin to listen; returns the first server's address. Raises OSError if one has none."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error
        return self.urls[0]

    def stop(self, timeout_s: float = DRAIN_S + 5.0) -> None:
        """See open questions to their end and close; idempotent."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except UnicodeError:
            self._error = OSError(errno.EINVAL, "no host can be called so")
        except OSError as error:
            self._error = error
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        """Run all of them; the first that fails ends the others."""
        runs = [server.run(self._stopped, self._one_started) for server in self._servers]
        running = [asyncio.create_task(run) for run in runs]
        try:
            await asyncio.gather(*running)
        finally:
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _one_started(self) -> None:
        self._not_started -= 1
        if not self._not_started:
            self._started.set()


def _ticket(path: str) -> str | None:
    """What `?ticket=` says in a path, the one way for a web page to say who it is."""
    given = parse_qs(path.partition("?")[2]).get("ticket", [])
    return given[0] if len(given) == 1 else None


def _text(status: int, text: str) -> Response:
    return _response(text_page(status, text))


def _response(page: Page) -> Response:
    headers = Headers(page.headers)
    headers["Content-Type"] = page.content_type
    headers["Content-Length"] = str(len(page.body))
    headers["Connection"] = "close"
    return Response(page.status, http.HTTPStatus(page.status).phrase, headers, page.body)
