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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from stream.doors import Doors, ShutOutError
from stream.guarded_socket import GuardedSocket
from stream.hub import MAX_MESSAGE_BYTES
from stream.ingest import MAX_PICTURE_BYTES
from stream.metrics import Metrics
from stream.pages import Page, Pages, text_page
from stream.protocol import PROTOCOL
from stream.registry import StreamRegistry
from stream.talk import DRAIN_S, PING_S, QUERY_PATH, Talk, is_socket_path, scope_of
from stream.tickets import ticket_of

# A handshake takes no longer.
OPEN_S = 10.0


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
        talk: Talk,
        registry: StreamRegistry,
        metrics: Metrics,
        doors: Doors,
        address: Address,
    ) -> None:
        doors.check_bind(address.host)
        self._talk, self._pages = talk, Pages(registry, metrics)
        self._doors, self._address = doors, address
        self._port = address.port

    @property
    def url(self) -> str:
        """What clients connect to."""
        host, scheme = self._address.host, "ws" if self._address.tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}{QUERY_PATH}"

    async def run(self, stopped: asyncio.Event, started: Callable[[], None]) -> None:
        """Serve; after `stopped` see open questions to their end, within DRAIN_S, and close."""
        address = self._address
        async with (
            self._talk.served(),
            serve(
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
            ) as server,
        ):
            self._port = next(iter(server.sockets)).getsockname()[1]
            started()
            await stopped.wait()
            await self._talk.drain()

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
            return _text(503, "draining") if self._talk.draining else _text(200, "ready")
        talks, scope, headers = is_socket_path(path), scope_of(path), request.headers
        ticket = ticket_of(request.path.partition("?")[2]) if talks else None
        try:
            self._doors.let_in(
                scope, headers.get_all("Host"), headers.get_all("Authorization"), ticket
            )
        except ShutOutError as error:
            response = _text(error.status, str(error))
            if error.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if scope == "ingest":
            socket.protocol.max_message_size = MAX_PICTURE_BYTES
        if talks:
            return None if await self._talk.let_come() else _text(503, "too many clients")
        return _response(await asyncio.to_thread(self._pages.at, path))

    async def _handle(self, socket: ServerConnection) -> None:
        """One client, from its coming to its going."""
        assert isinstance(socket, GuardedSocket) and socket.request is not None
        await self._talk.with_client(socket, socket.request.path.partition("?")[0])


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
    def loop(self) -> asyncio.AbstractEventLoop:
        """On which they run."""
        return self._loop

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
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except UnicodeError:
            self._error = OSError(errno.EINVAL, "no host can be called so")
        except OSError as error:
            self._error = error
        finally:
            self._started.set()

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


def _text(status: int, text: str) -> Response:
    return _response(text_page(status, text))


def _response(page: Page) -> Response:
    headers = Headers(page.headers)
    headers["Content-Type"] = page.content_type
    headers["Content-Length"] = str(len(page.body))
    headers["Connection"] = "close"
    return Response(page.status, http.HTTPStatus(page.status).phrase, headers, page.body)
